"""A pair: the answers of two systems to one request, whatever systems and wherever the answers come from.

The sides are called `mesh` (the system in use) and `model` (the system that may replace it). `again` is the mesh asked
a second time for the same request: how far it differs from itself is the noise floor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

OK = "OK"

# Ids of items: all integers or all strings.
ItemIds = tuple[int, ...] | tuple[str, ...]


class PairSide(StrEnum):
    MESH = "mesh"
    MODEL = "model"
    AGAIN = "again"


@dataclass(frozen=True)
class SideAnswer:
    """One side's answer.

    item_ids: best first. scores: the order's values in the order of item_ids; empty where the side tells none.
    status: the name of a gRPC status; items are empty unless it is OK. latency_ms: NaN where unknown. version: what
    answered; "" where unknown.
    """

    item_ids: ItemIds
    scores: tuple[float, ...] = ()
    status: str = OK
    latency_ms: float = math.nan
    version: str = ""


@dataclass(frozen=True)
class Pair:
    """One request and what each side answered; None where a side was not asked or its answer is not here.

    user_key: a keyed hash of the user's id; "" where unknown. unix_ms: when the caller's answer was given; 0 where
    unknown. served_by: the side whose answer the caller got; "" where unknown. max_results: that were asked for; 0
    where unknown. filter: its text in CEL; "" where every item is eligible; None where unknown. request: a
    mesh.v1.RetrieveRequest; b"" where unknown. is_redacted: whether the request lacks what an answer depends on, so
    that it cannot be replayed. slices: names and values by which pairs are grouped.
    """

    request_id: str
    surface: str = ""
    user_key: str = ""
    unix_ms: int = 0
    mesh: SideAnswer | None = None
    model: SideAnswer | None = None
    again: SideAnswer | None = None
    served_by: str = ""
    max_results: int = 0
    filter: str | None = None
    request: bytes = field(default=b"", repr=False)
    is_redacted: bool = False
    slices: Mapping[str, str] = field(default_factory=dict)
