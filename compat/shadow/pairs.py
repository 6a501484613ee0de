"""A pair: the answers of two systems to one request, from whatever source.

The sides are `mesh` (the system in use) and `model` (the system that may replace it). `again` is the mesh's second
answer to the same request: its difference from the first is the noise floor.
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

    item_ids: best first. scores: values by which items are ordered; empty where unknown. status: name of a gRPC status;
    items are empty unless it is OK. latency_ms: NaN where unknown. version: the answering version; "" where unknown.
    """

    item_ids: ItemIds
    scores: tuple[float, ...] = ()
    status: str = OK
    latency_ms: float = math.nan
    version: str = ""


@dataclass(frozen=True)
class Pair:
    """One request and each side's answer; None where a side was not called or its answer is unknown.

    user_key: a keyed hash of the user's id; "" where unknown. unix_ms: time of the caller's answer; 0 where unknown.
    served_by: the side whose answer the caller got; "" where unknown. max_results: the requested number; 0 where
    unknown. filter: in CEL; "" where every item is eligible; None where unknown. request: a mesh.v1.RetrieveRequest;
    b"" where unknown. is_redacted: whether the request lacks fields on which an answer depends, so that it cannot be
    replayed. slices: names and values by which pairs are grouped.
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
