"""Sums of values by user, from which each user's means are taken at every look."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]


class UserMeans:
    """Columns of values that some pairs of a user have."""

    def __init__(self, columns: int) -> None:
        self._sums = np.zeros((columns, 1024))
        self._counts = np.zeros((columns, 1024), np.int64)
        self._users = 0

    def add(self, user: int, column: int, value: float) -> None:
        """A value of a user, who is numbered from 0. NaN tells nothing."""
        if math.isnan(value):
            return
        self._make_room(user)
        self._sums[column, user] += value
        self._counts[column, user] += 1

    def add_many(self, users: Int, column: int, values: Float) -> None:
        """As `add` of each: [N], [N]."""
        is_told = ~np.isnan(values)
        if is_told.any():
            self._make_room(int(users.max()))
            np.add.at(self._sums[column], users[is_told], values[is_told])
            np.add.at(self._counts[column], users[is_told], 1)

    def means(self, column: int) -> Float:
        """[U], NaN where a user has no value."""
        sums, counts = self._sums[column, : self._users], self._counts[column, : self._users]
        means: Float = np.divide(sums, counts, out=np.full(self._users, np.nan), where=counts > 0)
        return means

    def count(self, column: int) -> int:
        """Values of all users."""
        return int(self._counts[column, : self._users].sum())

    def _make_room(self, user: int) -> None:
        self._users = max(self._users, user + 1)
        room = self._sums.shape[1]
        if self._users > room:
            more = ((0, 0), (0, max(room, self._users - room)))
            self._sums, self._counts = np.pad(self._sums, more), np.pad(self._counts, more)
