"""Training examples: a user's history up to some moment, and what the user did next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from meshfold.model.data.interactions import Bools, Interactions, places_of
from meshfold.model.types import Int64s

NOTHING = -1  # in place of an item


@dataclass(frozen=True, eq=False)
class Examples:
    """U examples. Items are places in the catalog, NOTHING after the last.

    history: [U, H] int64 - oldest first. targets: [U, W] int64 - what followed. labels: [U, T, W] bool - for
    which tasks a target counts.
    """

    history: Int64s
    targets: Int64s
    labels: Bools


@dataclass(frozen=True, eq=False)
class Timelines:
    """What each of U users did, oldest first; items that the catalog lacks are left out.

    users: [U] int64 - ids, ascending. offsets: [U + 1] int64. places: [M] int64. tasks: [T, M] bool.
    """

    users: Int64s
    offsets: Int64s
    places: Int64s
    tasks: Bools

    @classmethod
    def of(cls, interactions: Interactions, item_ids: Int64s, tasks: Sequence[str]) -> Self:
        """item_ids: [N] int64, each once. tasks: names, in the order of answers."""
        places = places_of(interactions.item_ids, item_ids)
        kept = interactions.where(places >= 0)
        masks = np.stack([kept.tasks[task] for task in tasks])
        return cls(kept.users, kept.user_offsets, places[places >= 0], masks)

    def until(self, cuts: Int64s) -> Self:
        """The same users as they were after their first `cuts` interactions: cuts: [U] int64."""
        kept = self.steps < np.repeat(cuts, self.lengths)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.minimum(cuts, self.lengths))])
        return type(self)(self.users, offsets, self.places[kept], self.tasks[:, kept])

    def lengths_in(self, part: Self) -> Int64s:
        """[U] int64 - how many interactions each of these users has in another's timelines."""
        lengths = np.zeros(len(self.users), np.int64)
        lengths[np.searchsorted(self.users, part.users)] = part.lengths
        return lengths

    @property
    def steps(self) -> Int64s:
        """[M] int64 - how many came before it in its user's."""
        return np.arange(len(self.places)) - np.repeat(self.offsets[:-1], self.lengths)

    @property
    def lengths(self) -> Int64s:
        """[U] int64."""
        return np.diff(self.offsets)

    def tasks_ahead(self) -> set[int]:
        """Places of the tasks that a user did after some first interaction, so that it can be learned from."""
        return set(np.flatnonzero(self.tasks[:, self.steps > 0].any(1)).tolist())

    def histories(self, users: Int64s, cuts: Int64s, most: int) -> Int64s:
        """[B, most] int64 - the newest of the first `cuts` items of each user: users, cuts: [B] int64."""
        starts = np.maximum(cuts - most, 0)
        return self._window(users, starts, cuts - starts, most)[0]

    def examples(self, users: Int64s, cuts: Int64s, most: int, following: Int64s, targets: int) -> Examples:
        """The history before each cut and up to `targets` of the `following` items after it.

        users, cuts, following: [B] int64.
        """
        lengths = np.minimum(np.minimum(following, self.lengths[users] - cuts), targets)
        places, at = self._window(users, cuts, lengths, targets)
        labels = self.tasks[:, at].transpose(1, 0, 2) & (places >= 0)[:, None]
        return Examples(self.histories(users, cuts, most), places, labels)

    def met(self, users: Int64s, items: int) -> Bools:
        """[B, items] bool - what of the catalog each user met: users: [B] int64."""
        met = np.zeros((len(users), items), bool)
        for row, user in enumerate(users.tolist()):
            met[row, self.places[self.offsets[user] : self.offsets[user + 1]]] = True
        return met

    def first(self, user: int, cut: int) -> Int64s:
        """[cut] int64 - the user's first items."""
        start = int(self.offsets[user])
        return self.places[start : start + cut]

    def _window(self, users: Int64s, starts: Int64s, lengths: Int64s, width: int) -> tuple[Int64s, Int64s]:
        """(places: [B, width], NOTHING beyond the lengths; where they stand: [B, width])."""
        steps = np.arange(width)
        at = (self.offsets[users] + starts)[:, None] + steps
        real = steps < lengths[:, None]
        at = np.where(real, at, 0)
        return np.where(real, self.places[at], NOTHING), at
