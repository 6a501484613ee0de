"""Recall against time: points, what is best among them, and how rows hold them. Needs no peer installed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.rows import Row

DEFAULT, IN_LISTS = "meshfold", "meshfold, Faiss's lists"
OURS = (DEFAULT, IN_LISTS)
SQ8, UNIFORM, FAST_SCAN = "Faiss SQ8", "Faiss SQ8 uniform", "Faiss PQ fast-scan"
FAISS = (SQ8, UNIFORM, FAST_SCAN)
ROARING, REFERENCE = "pyroaring, exact dots", "torch reference"
# Where times are compared.
TARGET = 0.99


@dataclass(frozen=True)
class Point:
    """Recall of the k best at a setting; median and 95th percentile of a query's ms."""

    system: str
    setting: str
    recall: float
    p50_ms: float
    p95_ms: float


def frontier(points: Iterable[Point]) -> list[Point]:
    """The points that no other one beats in both recall and time, by ascending recall."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (-p.recall, p.p50_ms)):
        if not kept or point.p50_ms < kept[-1].p50_ms:
            kept.append(point)
    return kept[::-1]


def ms_at(points: Iterable[Point], recall: float) -> float:
    """Time at a recall, between neighbours of the frontier as on a logarithmic axis; infinite beyond the last."""
    kept = frontier(points)
    above = next((i for i, p in enumerate(kept) if p.recall >= recall), None)
    if above is None:
        return math.inf
    high = kept[above]
    if above == 0:
        return high.p50_ms
    low = kept[above - 1]
    share = (recall - low.recall) / (high.recall - low.recall)
    return math.exp((1 - share) * math.log(low.p50_ms) + share * math.log(high.p50_ms))


def best_of(points: Iterable[Point], system: str) -> Point:
    """A system's quickest point at TARGET; its best recall where it does not get there."""
    own = frontier(p for p in points if p.system == system)
    return next((p for p in own if p.recall >= TARGET), own[-1])


def figures_of(points: Sequence[Point]) -> dict[str, float]:
    """The frontier of every system, as figures of a row."""
    figures: dict[str, float] = {}
    for system in dict.fromkeys(p.system for p in points):
        for p in frontier(q for q in points if q.system == system):
            at = f"{system} | {p.setting}"
            figures |= {
                f"{at} | recall": round(p.recall, 5),
                f"{at} | p50_ms": round(p.p50_ms, 4),
                f"{at} | p95_ms": round(p.p95_ms, 4),
            }
    return figures


def points_of(row: Row) -> list[Point]:
    """The inverse of figures_of."""
    values: dict[tuple[str, str], list[float]] = {}
    for name, value in row.figures.items():
        system, setting, _ = name.split(" | ")
        values.setdefault((system, setting), []).append(value)
    return [Point(system, setting, *of_point) for (system, setting), of_point in values.items()]
