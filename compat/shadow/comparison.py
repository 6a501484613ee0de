"""The result of a comparison: figures with intervals, rates, exposure, causes, slices and examples.

Every type is plain data, so that a report, JSON and metrics are written from it alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from meshfold.compat.shadow.pairs import Pair

# Depths at which answers are compared, besides their whole length (depth 0).
DEPTHS = (10, 50, 100)


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval; NaN bounds where there are too few users for one."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Figure:
    """A measure over pairs, one paired value a user.

    name: such as "overlap@100". difference: model against mesh, over all pairs. noise: the mesh's first against its
    second answer. excess: difference minus noise. Noise and excess are over noise pairs; None where there are none.
    """

    name: str
    difference: Interval
    noise: Interval | None
    excess: Interval | None
    pairs: int
    noise_pairs: int
    users: int


@dataclass(frozen=True)
class Rate:
    """A rare event of one side, with exact binomial bounds (Clopper and Pearson, 95 %).

    name: such as "violations", "errors", "duplicates". count of `of`: answers, or items for violations.
    """

    name: str
    side: str
    count: int
    of: int
    low: float
    high: float


@dataclass(frozen=True)
class Exposure:
    """The share of results with a field's value, model over mesh. depth: 0 for all results, else the top 10.

    Shares are means over users. ratio: infinite where the mesh never shows the value. q: the p value of equal shares,
    corrected for all values of the surface (Benjamini and Hochberg).
    """

    field: str
    value: str
    depth: int
    mesh_share: float
    model_share: float
    ratio: Interval
    q: float = math.nan


@dataclass(frozen=True)
class Latency:
    """Latencies of one side's answers, in milliseconds."""

    side: str
    answers: int
    p50: float
    p90: float
    p99: float


@dataclass(frozen=True)
class Slice:
    """Pairs that share a value of a slice. difference_from_rest: overlap@100 of its users minus the other users'.

    q: the p value corrected for all slices (Benjamini and Hochberg). excess as in Figure; None without noise pairs.
    """

    name: str
    value: str
    users: int
    pairs: int
    overlap: Interval
    excess: Interval | None
    difference_from_rest: float
    p: float
    q: float


@dataclass(frozen=True)
class Drift:
    """Model scores of common items after one monotone fit from mesh scores, made on other pairs.

    error: the median absolute difference over the spread of model scores (interquartile range). curve: (mesh score,
    fitted model score), ascending. points: a sample of (mesh score, model score).
    """

    error: Interval
    items: int
    curve: tuple[tuple[float, float], ...]
    points: tuple[tuple[float, float], ...]


class Cause(StrEnum):
    """Why an item is in one answer and not in the other."""

    MESH_ANN_MISS = "mesh_ann_miss"
    MODEL_ANN_MISS = "model_ann_miss"
    MESH_FILTER = "mesh_filter"
    MODEL_FILTER = "model_filter"
    TIE = "tie"
    PRECISION = "precision"
    MESH_CATALOG = "mesh_catalog"
    MODEL_CATALOG = "model_catalog"
    USER_VECTOR = "user_vector"
    SCORES = "scores"
    MERGE = "merge"
    CAP = "cap"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Difference:
    """An item of one answer that is not in the other.

    missing_from: "mesh" or "model". rank: in the answer that has it, from 1. cause: UNKNOWN unless undoing the cause
    brings the item back.
    """

    item_id: int | str
    missing_from: str
    rank: int
    cause: Cause


@dataclass(frozen=True)
class ItemText:
    """The description of an item for readers."""

    title: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Example:
    """A pair shown as a whole. items: descriptions of both answers' items, where known."""

    pair: Pair
    measures: Mapping[str, float]
    differences: tuple[Difference, ...] = ()
    items: Mapping[int | str, ItemText] = field(default_factory=dict)


@dataclass(frozen=True)
class SurfaceComparison:
    """One surface.

    curve: (depth, difference, noise or NaN), the mean overlap at each depth. histogram: pairs by overlap at their
    whole length in 20 equal bins from 0 to 1, difference and noise. attributed_pairs: how many pairs have causes.
    causes: items of those pairs by (side they are missing from, cause).
    """

    surface: str
    pairs: int
    noise_pairs: int
    users: int
    figures: tuple[Figure, ...]
    curve: tuple[tuple[int, float, float], ...]
    histogram: tuple[tuple[int, ...], tuple[int, ...]]
    rates: tuple[Rate, ...]
    latencies: tuple[Latency, ...]
    exposure: tuple[Exposure, ...]
    drift: Drift | None
    slices: tuple[Slice, ...]
    attributed_pairs: int
    causes: Mapping[tuple[str, str], int]
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Comparison:
    """All surfaces.

    counted: what was left out and why, such as {"dropped": 3, "answers that do not decode": 1}. from_unix_ms,
    to_unix_ms: of the pairs; 0 where unknown. sources: where the pairs came from. notes: sentences for the reader, such
    as that a record is redacted and cannot be replayed.
    """

    surfaces: tuple[SurfaceComparison, ...]
    counted: Mapping[str, int] = field(default_factory=dict)
    from_unix_ms: int = 0
    to_unix_ms: int = 0
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Catalog(Protocol):
    """The items and filters of a snapshot."""

    @property
    def fields(self) -> Sequence[str]:
        """Fields whose values' exposure is compared."""

    def violations(self, pair: Pair, item_ids: Sequence[int | str]) -> int | None:
        """The number of items that the request's filter and exclusions do not admit; None where these are unknown.

        Items that the snapshot lacks are not counted.
        """

    def known(self, item_ids: Sequence[int | str]) -> int:
        """The number of items that the snapshot has, among which violations are counted."""

    def values(self, item_id: int | str, field: str) -> tuple[str, ...]:
        """An item's values of a field; empty where the item is unknown or lacks it."""

    def text(self, item_id: int | str) -> ItemText: ...
