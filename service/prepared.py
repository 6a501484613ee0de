"""Queries prepared for one snapshot, with positions in place of ids and programs in place of filters."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from meshfold.model.filter.program import Program
from meshfold.model.types import Float32s, Ids, Int64s, Query
from meshfold.model.value.formulas import ValueQuery


@dataclass(frozen=True, eq=False)
class PreparedUser:
    """A prepared user.

    query_vector: [T, D] float32, None where the request has none. met: positions of the whole history, -1 for unknown
    items. history: [H] - positions of the part that towers read; history_ids: [H] int64 - their keys
    (model/item_ids.py). inputs: an array for each declared input; has_input: whether the request had it.
    """

    query_vector: Float32s | None
    met: Int64s
    history: Int64s
    history_ids: Int64s
    inputs: Mapping[str, Int64s | Float32s]
    has_input: bool


@dataclass(frozen=True, eq=False)
class PreparedQuery:
    """A prepared Query. excluded: positions. depth: number of candidates. plan: equal for queries that may run
    together."""

    query: Query
    user: PreparedUser
    excluded: Int64s
    program: Program
    value: ValueQuery
    cap_field: int
    fields: tuple[str, ...]
    depth: int
    plan: Hashable = None


@dataclass(frozen=True, eq=False)
class PreparedSearch:
    """A prepared SearchQuery. queries: [Q, D] float32. excluded: positions. depth: candidates of each query vector."""

    queries: Float32s
    excluded: Int64s
    program: Program
    depth: int
    k: int


@dataclass(frozen=True, eq=False)
class PreparedScore:
    """A prepared ScoreQuery. item_ids, positions: [M] - of known items. unknown_ids: the other ids."""

    user: PreparedUser
    item_ids: Ids
    positions: Int64s
    unknown_ids: Ids
    value: ValueQuery
