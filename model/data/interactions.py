"""Interactions of users with items and their times: the input of training, evaluation and popularity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from meshfold.model.errors import InvalidData
from meshfold.model.types import Float32s, Float64s, Int64s, no_ids

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Interactions:
    """M interactions, sorted by user and time at construction.

    Interactions of equal time are ordered by a hash of user and item, so that the order of ids causes no bias.
    user_ids, item_ids: [M] int64 - integers, or hashes of strings (model/item_ids.py); items may be missing from the
    catalog, for logs outlive items. times: [M] int64 or float64 seconds. tasks: for each task, [M] bool - whether the
    interaction counts for it. rows: [M] int64 - the place of each interaction before sorting.
    """

    user_ids: Int64s
    item_ids: Int64s
    times: Int64s | Float64s
    tasks: Mapping[str, Bools]
    rows: Int64s = field(default_factory=no_ids)

    def __post_init__(self) -> None:
        m = len(self.user_ids)
        if not len(self.rows):
            object.__setattr__(self, "rows", np.arange(m))
        parts = {"item_ids": self.item_ids, "times": self.times, "rows": self.rows, **self.tasks}
        for name, part in parts.items():
            if len(part) != m:
                raise InvalidData(f"{name} has {len(part)} rows for {m} interactions")
        if self.times.dtype == np.float64 and not np.isfinite(self.times).all():
            raise InvalidData("the time of every interaction must be finite")
        order = np.lexsort((self.item_ids, _mixed(self.user_ids, self.item_ids), self.times, self.user_ids))
        if m > 1 and (order[1:] < order[:-1]).any():
            for name in ("user_ids", "item_ids", "times", "rows"):
                object.__setattr__(self, name, getattr(self, name)[order])
            object.__setattr__(self, "tasks", {name: mask[order] for name, mask in self.tasks.items()})

    def __len__(self) -> int:
        return len(self.user_ids)

    def where(self, chosen: Int64s | Bools) -> Self:
        """The chosen interactions. chosen: [M] bool, or places in this order."""
        return type(self)(
            self.user_ids[chosen],
            self.item_ids[chosen],
            self.times[chosen],
            {name: mask[chosen] for name, mask in self.tasks.items()},
            self.rows[chosen],
        )

    def of_task(self, task: str) -> Self:
        """The interactions that count for the task."""
        return self.where(self.tasks[task])

    @cached_property
    def users(self) -> Int64s:
        """[U] int64 - ids of the users, ascending, each once."""
        return self.user_ids[self._starts]

    @cached_property
    def user_offsets(self) -> Int64s:
        """[U + 1] int64: users[u] has the interactions user_offsets[u] to user_offsets[u + 1]."""
        return np.append(self._starts, len(self)).astype(np.int64)

    def history(self, user_id: int) -> Int64s:
        """[H] int64 - ids of the user's items, oldest first; empty for an unknown user."""
        start = int(np.searchsorted(self.user_ids, user_id, side="left"))
        end = int(np.searchsorted(self.user_ids, user_id, side="right"))
        return self.item_ids[start:end] if end > start else no_ids()

    def popularity(self, item_ids: Int64s) -> Float32s:
        """[N] float32 - number of interactions of each item. item_ids: [N] int64, each once."""
        places = places_of(self.item_ids, item_ids)
        counts = np.bincount(places[places >= 0], minlength=len(item_ids))
        return counts.astype(np.float32)

    def split_latest(self, share: float) -> tuple[Self, Self]:
        """Splits by time into (earlier, latest).

        The latest are about floor(n * share) of each user's n interactions, and at least one for a user with two or
        more. The cut moves so that interactions of equal time stay together, unless a side would be empty or the
        latest would be more than half. In these cases the hash of user and item decides.
        """
        counts, cuts = np.diff(self.user_offsets), self._cuts(share)
        place = np.arange(len(self)) - np.repeat(self.user_offsets[:-1], counts)
        latest = place >= np.repeat(cuts, counts)
        return self.where(~latest), self.where(latest)

    def tied_cuts(self, share: float) -> float:
        """The share of users of split_latest whose interactions next to the cut have equal times, so an unknown order.

        0 where no user's interactions are split.
        """
        cuts = self._cuts(share)
        split = (cuts > 0) & (cuts < np.diff(self.user_offsets))
        after = (self.user_offsets[:-1] + cuts)[split]
        return float((self.times[after] == self.times[after - 1]).mean()) if len(after) else 0.0

    def _cuts(self, share: float) -> Int64s:
        """[U] int64: the number of earlier interactions of each user."""
        if not len(self):
            return no_ids()
        counts, first = np.diff(self.user_offsets), self.user_offsets[:-1]
        cuts = counts - np.maximum(np.floor(counts * share).astype(np.int64), np.minimum(counts - 1, 1))
        # starts: the first interaction of each group of one user and one time. A group ends where the next one starts.
        new = np.append(True, (self.user_ids[1:] != self.user_ids[:-1]) | (self.times[1:] != self.times[:-1]))
        starts = np.append(np.flatnonzero(new), len(self))
        group = np.searchsorted(starts, np.minimum(first + cuts, len(self) - 1), side="right") - 1
        before, after = starts[group] - first, starts[group + 1] - first
        inside = (cuts > 0) & (cuts < counts) & (before < cuts)
        can_grow = inside & (before > 0) & (2 * (counts - before) <= np.maximum(counts, 2 * (counts - cuts)))
        can_shrink = inside & (after < counts)
        down = can_grow & (~can_shrink | (cuts - before <= after - cuts))
        chosen: Int64s = np.where(down, before, np.where(can_shrink, after, cuts))
        return chosen

    @cached_property
    def _starts(self) -> Int64s:
        if len(self) == 0:
            return no_ids()
        changes = np.flatnonzero(self.user_ids[1:] != self.user_ids[:-1]) + 1
        return np.concatenate([np.zeros(1, np.int64), changes])


def _mixed(users: Int64s, items: Int64s) -> npt.NDArray[np.uint64]:
    """[M] uint64 - a hash of each pair of user and item (the finaliser of SplitMix64)."""
    mixed = users.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ items.view(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def places_of(ids: Int64s, known: Int64s) -> Int64s:
    """[n] int64 - the place of each id in `known`, -1 where it is missing.

    ids: [n] int64. known: [N] int64, each once.
    """
    if len(known) == 0:
        return np.full(len(ids), -1, np.int64)
    order = np.argsort(known, kind="stable")
    found = np.minimum(np.searchsorted(known, ids, sorter=order), len(known) - 1)
    places = order[found]
    return np.where(known[places] == ids, places, -1)
