"""Training examples: a user's history up to some moment, and the items that followed."""

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
    """Histories and targets of U examples. Items are places in the catalog, NOTHING after the last.

    history: [U, H] int64 - oldest first. targets: [U, W] int64 - the items that followed. labels: [U, T, W] bool -
    the tasks that a target counts for.
    """

    history: Int64s
    targets: Int64s
    labels: Bools


@dataclass(frozen=True, eq=False)
class Timelines:
    """Interactions of U users, oldest first, without items that the catalog lacks.

    users: [U] int64 - ids, ascending. offsets: [U + 1] int64 - where each user's interactions begin. places: [M]
    int64 - items as places in the catalog. tasks: [T, M] bool.
    """

    users: Int64s
    offsets: Int64s
    places: Int64s
    tasks: Bools

    @classmethod
    def of(cls, interactions: Interactions, item_ids: Int64s, tasks: Sequence[str]) -> Self:
        """The timelines of interactions with a catalog.

        item_ids: [N] int64, each once. tasks: names, in the order of answers.
        """
        places = places_of(interactions.item_ids, item_ids)
        kept = interactions.where(places >= 0)
        masks = np.stack([kept.tasks[task] for task in tasks])
        return cls(kept.users, kept.user_offsets, places[places >= 0], masks)

    def until(self, cuts: Int64s) -> Self:
        """The same users with their first `cuts` interactions alone. cuts: [U] int64."""
        kept = self.steps < np.repeat(cuts, self.lengths)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.minimum(cuts, self.lengths))])
        return type(self)(self.users, offsets, self.places[kept], self.tasks[:, kept])

    def lengths_in(self, part: Self) -> Int64s:
        """[U] int64 - numbers of interactions of these users in other timelines."""
        lengths = np.zeros(len(self.users), np.int64)
        lengths[np.searchsorted(self.users, part.users)] = part.lengths
        return lengths

    @property
    def steps(self) -> Int64s:
        """[M] int64 - the place of each interaction in its user's timeline, from 0."""
        return np.arange(len(self.places)) - np.repeat(self.offsets[:-1], self.lengths)

    @property
    def lengths(self) -> Int64s:
        """[U] int64 - the number of interactions of each user."""
        return np.diff(self.offsets)

    def tasks_ahead(self) -> set[int]:
        """Indices of the tasks with an interaction that is not its user's first, so that there is a target."""
        return set(np.flatnonzero(self.tasks[:, self.steps > 0].any(1)).tolist())

    def histories(self, users: Int64s, cuts: Int64s, length: int) -> Int64s:
        """[B, length] int64 - the newest items before each cut. users, cuts: [B] int64."""
        starts = np.maximum(cuts - length, 0)
        return self._window(users, starts, cuts - starts, length)[0]

    def examples(self, users: Int64s, cuts: Int64s, length: int, following: Int64s, targets: int) -> Examples:
        """Histories before the cuts, and up to `targets` of the `following` items after them.

        users, cuts, following: [B] int64. length: of a history.
        """
        lengths = np.minimum(np.minimum(following, self.lengths[users] - cuts), targets)
        places, at = self._window(users, cuts, lengths, targets)
        labels = self.tasks[:, at].transpose(1, 0, 2) & (places >= 0)[:, None]
        return Examples(self.histories(users, cuts, length), places, labels)

    def met(self, users: Int64s, items: int) -> Bools:
        """[B, items] bool - whether each user met each item of the catalog. users: [B] int64."""
        met = np.zeros((len(users), items), bool)
        for row, user in enumerate(users.tolist()):
            met[row, self.places[self.offsets[user] : self.offsets[user + 1]]] = True
        return met

    def first(self, user: int, cut: int) -> Int64s:
        """[cut] int64 - the user's first items."""
        start = int(self.offsets[user])
        return self.places[start : start + cut]

    def _window(self, users: Int64s, starts: Int64s, lengths: Int64s, width: int) -> tuple[Int64s, Int64s]:
        """(places: [B, width], NOTHING beyond the lengths; their indices into self.places: [B, width])."""
        steps = np.arange(width)
        at = (self.offsets[users] + starts)[:, None] + steps
        real = steps < lengths[:, None]
        at = np.where(real, at, 0)
        return np.where(real, self.places[at], NOTHING), at
