"""Recall and NDCG of rankings against what users did later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from meshfold.model.data.interactions import Bools
from meshfold.model.train.examples import NOTHING, Timelines
from meshfold.model.types import Float64s, Int64s

DEPTHS = (20, 50, 100)
FIGURES = tuple(f"{part}@{k}" for part in ("recall", "ndcg") for k in DEPTHS)


@dataclass(frozen=True)
class Quality:
    """Means over users who have held-out items, by depth. recall: hits over held-out items. ndcg: of hits
    (binary), against the order in which every hit comes first."""

    recall: Mapping[int, float]
    ndcg: Mapping[int, float]

    def to_json(self) -> dict[str, float]:
        named = {f"recall@{k}": v for k, v in self.recall.items()}
        return named | {f"ndcg@{k}": v for k, v in self.ndcg.items()}

    @classmethod
    def from_json(cls, raw: Mapping[str, float]) -> Self:
        parts = {name: {k: float(raw[f"{name}@{k}"]) for k in DEPTHS} for name in ("recall", "ndcg")}
        return cls(**parts)


@dataclass(frozen=True)
class Metrics:
    """Of the test part, for reporting only: nothing was chosen by it.

    rankings: quality by ranking and task, None for a task that nobody did in the test part. users: by task, how many
    have held-out items. training: what the training chose on its validation part.
    """

    rankings: Mapping[str, Mapping[str, Quality | None]]
    users: Mapping[str, int]
    training: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        rankings = {
            name: {task: quality and quality.to_json() for task, quality in by_task.items()}
            for name, by_task in self.rankings.items()
        }
        return {"rankings": rankings, "users": dict(self.users), "training": dict(self.training)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError where `raw` is not what to_json gives."""
        rankings = {
            name: {task: quality and Quality.from_json(quality) for task, quality in by_task.items()}
            for name, by_task in raw["rankings"].items()
        }
        return cls(rankings, dict(raw["users"]), dict(raw["training"]))


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What each of U users did later, for one task.

    keys: [M] int64 - user * items + place, ascending, each once. counts: [U] int64. items: of the catalog. already_met:
    how many more there would be if results held what users had met before.
    """

    keys: Int64s
    counts: Int64s
    items: int
    already_met: int = 0

    @classmethod
    def after(
        cls, timelines: Timelines, rows: Int64s, cuts: Int64s, task: int, items: int, exclude: bool
    ) -> Self:
        """What the users timelines.users[rows] did after their first `cuts` interactions.

        rows, cuts: [U] int64. exclude: less what they had met before, as results are.
        """
        later: list[Int64s] = []
        already_met = 0
        for example, (row, cut) in enumerate(zip(rows.tolist(), cuts.tolist(), strict=True)):
            start, end = int(timelines.offsets[row]), int(timelines.offsets[row + 1])
            middle = min(start + cut, end)
            places = np.unique(timelines.places[middle:end][timelines.tasks[task, middle:end]])
            if exclude:
                done = len(places)
                places = np.setdiff1d(places, timelines.places[start:middle], assume_unique=False)
                already_met += done - len(places)
            later.append(example * items + places)
        keys = np.concatenate(later) if later else np.empty(0, np.int64)
        return cls(keys, np.bincount(keys // items, minlength=len(rows)), items, already_met)

    def hits(self, ranked: Int64s) -> Bools:
        """[U, K] bool. ranked: [U, K] int64 - places, NOTHING after the last."""
        keys = np.arange(len(ranked))[:, None] * self.items + ranked
        if len(self.keys) == 0:
            return np.zeros(ranked.shape, bool)
        found = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        hits: Bools = (self.keys[found] == keys) & (ranked != NOTHING)
        return hits


def quality(ranked: Int64s, held: HeldOut) -> Quality | None:
    """None where nobody has held-out items. ranked: [U, K] int64 - places, best first, each once, NOTHING after the
    last."""
    some = held.counts > 0
    if not some.any():
        return None
    hits, counts = held.hits(ranked)[some], held.counts[some]
    discounts = 1.0 / np.log2(np.arange(max(DEPTHS)) + 2.0)
    ideal: Float64s = np.cumsum(discounts)
    recall, ndcg = {}, {}
    for k in DEPTHS:
        top = hits[:, :k]
        recall[k] = float((top.sum(1) / counts).mean())
        gained = top @ discounts[: top.shape[1]]
        ndcg[k] = float((gained / ideal[np.minimum(counts, k) - 1]).mean())
    return Quality(recall, ndcg)


def mean_over(ranked: Iterable[Int64s], held: Iterable[HeldOut], part: str, depth: int) -> float:
    """The mean over tasks of recall or ndcg (`part`) at a depth; tasks that nobody did do not count, 0 without any."""
    found = [quality(of_task, held_of_task) for of_task, held_of_task in zip(ranked, held, strict=True)]
    values = [getattr(of_task, part)[depth] for of_task in found if of_task is not None]
    return float(np.mean(values)) if values else 0.0
