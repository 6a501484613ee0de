"""Recall and NDCG of rankings against later interactions of users."""

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
    """Means over users with held-out items, by K of DEPTHS.

    recall: hits among the first K results, divided by held-out items. ndcg: discounted hits (binary gain), divided
    by those of the best possible order.
    """

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
    """Quality on the test part, for reports alone: training chooses nothing by it.

    rankings: quality by ranking and task, None for a task without interactions in the test part. users: by task, the
    number of users with held-out items. training: settings, and choices made on the validation part.
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
    """Held-out items of U users for one task: the items of their later interactions.

    keys: [M] int64 - user * items + place, ascending, each once. counts: [U] int64 - held-out items of each user.
    items: number of items of the catalog. already_met: number of held-out items that were dropped because the user
    had met them before.
    """

    keys: Int64s
    counts: Int64s
    items: int
    already_met: int = 0

    @classmethod
    def after(
        cls, timelines: Timelines, rows: Int64s, cuts: Int64s, task: int, items: int, exclude: bool
    ) -> Self:
        """The items of the users timelines.users[rows] after their first `cuts` interactions.

        rows, cuts: [U] int64. exclude: drop items that the user had met before, as results do.
        """
        later: list[Int64s] = []
        already_met = 0
        for example, (row, cut) in enumerate(zip(rows.tolist(), cuts.tolist(), strict=True)):
            start, end = int(timelines.offsets[row]), int(timelines.offsets[row + 1])
            middle = min(start + cut, end)
            places = np.unique(timelines.places[middle:end][timelines.tasks[task, middle:end]])
            if exclude:
                count = len(places)
                places = np.setdiff1d(places, timelines.places[start:middle], assume_unique=False)
                already_met += count - len(places)
            later.append(example * items + places)
        keys = np.concatenate(later) if later else np.empty(0, np.int64)
        return cls(keys, np.bincount(keys // items, minlength=len(rows)), items, already_met)

    def hits(self, ranked: Int64s) -> Bools:
        """[U, K] bool - whether each result is held out. ranked: [U, K] int64 - places, NOTHING after the last."""
        keys = np.arange(len(ranked))[:, None] * self.items + ranked
        if len(self.keys) == 0:
            return np.zeros(ranked.shape, bool)
        found = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        hits: Bools = (self.keys[found] == keys) & (ranked != NOTHING)
        return hits


def quality(ranked: Int64s, held_out: HeldOut) -> Quality | None:
    """The quality of a ranking, None where no user has held-out items.

    ranked: [U, K] int64 - places, best first, each once, NOTHING after the last.
    """
    some = held_out.counts > 0
    if not some.any():
        return None
    hits, counts = held_out.hits(ranked)[some], held_out.counts[some]
    discounts = 1.0 / np.log2(np.arange(max(DEPTHS)) + 2.0)
    ideal: Float64s = np.cumsum(discounts)
    recall, ndcg = {}, {}
    for k in DEPTHS:
        top = hits[:, :k]
        recall[k] = float((top.sum(1) / counts).mean())
        gained = top @ discounts[: top.shape[1]]
        ndcg[k] = float((gained / ideal[np.minimum(counts, k) - 1]).mean())
    return Quality(recall, ndcg)


def mean_over(ranked: Iterable[Int64s], held_out: Iterable[HeldOut], part: str, k: int) -> float:
    """The mean over tasks with held-out items of `part`@k, 0 without such a task. part: recall or ndcg."""
    found = [quality(of_task, its_held_out) for of_task, its_held_out in zip(ranked, held_out, strict=True)]
    values = [getattr(of_task, part)[k] for of_task in found if of_task is not None]
    return float(np.mean(values)) if values else 0.0
