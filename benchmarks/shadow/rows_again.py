"""Overlap once more, from a demonstration's Parquet files: with pyarrow alone, as the page of measures says it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

DEPTH = 100
# Scores this close, as a share of the larger, are a tie.
TIE = 1e-6
_SIDES = ("mesh", "model", "again")


def read(folder: Path) -> list[dict[str, Any]]:
    """The rows of all files: what each side answered."""
    of_sides = [f"{side}_{name}" for side in _SIDES for name in ("item_ids", "scores", "status")]
    columns = ["request_id", "user_key", "max_results", *of_sides]
    rows: list[dict[str, Any]] = pq.read_table(folder, columns=columns).to_pylist()
    return rows


def mean_overlap(rows: Sequence[Mapping[str, Any]], one: str, other: str) -> float:
    """The mean overlap of two sides' first hundred: over users, of the means of their pairs."""
    by_user: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row[f"{one}_status"] == row[f"{other}_status"] == "OK":
            by_user[row["user_key"]].append(overlap(row, one, other))
    means = [sum(shares) / len(shares) for shares in by_user.values()]
    return sum(means) / len(means) if means else math.nan


def overlap(row: Mapping[str, Any], one: str, other: str) -> float:
    """The shared items over the longer list's length. Items that tie at a list's cut stand for each other."""
    a, b = row[f"{one}_item_ids"], row[f"{other}_item_ids"]
    assert max(len(a), len(b)) <= DEPTH
    if not a and not b:
        return 1.0
    if not a or not b:
        return 0.0
    shared = set(a) & set(b)
    tail_a, tail_b = (_tail(row, side) for side in (one, other))
    last_a, last_b = (row[f"{side}_scores"][-1] for side in (one, other))
    is_cut = min(len(a), len(b)) >= row["max_results"]
    is_same_cut = math.isclose(last_a, last_b, rel_tol=TIE) and _has_one_scale(row, one, other)
    if is_cut and tail_a and tail_b and (is_same_cut or tail_a & tail_b):
        tied = min(len(tail_a - shared), len(tail_b - shared))
        return (len(shared) + tied) / max(len(a), len(b))
    return len(shared) / max(len(a), len(b))


def _has_one_scale(row: Mapping[str, Any], one: str, other: str) -> bool:
    """Whether most common items have equal scores: else equal numbers of two systems are no ties."""
    a, b = (dict(zip(row[f"{side}_item_ids"], row[f"{side}_scores"], strict=True)) for side in (one, other))
    equal = [math.isclose(a[item_id], b[item_id], rel_tol=TIE) for item_id in a.keys() & b.keys()]
    return 0 < len(equal) <= 2 * sum(equal)


def _tail(row: Mapping[str, Any], side: str) -> set[int]:
    """The items that tie with the last; none where all do. A tie is measured from its first item."""
    first, scores = 0, row[f"{side}_scores"]
    for place, score in enumerate(scores):
        if not math.isclose(scores[first], score, rel_tol=TIE):
            first = place
    return set(row[f"{side}_item_ids"][first:]) if first or len(scores) == 1 else set()
