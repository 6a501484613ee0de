"""Sums of values by user, for each user's means at every look."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]


class UserMeans:
    """Columns of values; a pair may have a value in any of them."""

    def __init__(self, columns: int) -> None:
        self._sums = np.zeros((columns, 1024))
        self._counts = np.zeros((columns, 1024), np.int64)
        self._users = 0

    def add(self, user: int, column: int, value: float) -> None:
        """Adds a value of a user, numbered from 0. NaN is ignored."""
        if math.isnan(value):
            return
        self._make_room(user)
        self._sums[column, user] += value
        self._counts[column, user] += 1

    def add_many(self, users: Int, column: int, values: Float) -> None:
        """The same as `add` for each value. users, values: [N]."""
        has_value = ~np.isnan(values)
        if has_value.any():
            self._make_room(int(users.max()))
            np.add.at(self._sums[column], users[has_value], values[has_value])
            np.add.at(self._counts[column], users[has_value], 1)

    def means(self, column: int) -> Float:
        """[U], the mean of each user; NaN without a value."""
        sums, counts = self._sums[column, : self._users], self._counts[column, : self._users]
        means: Float = np.divide(sums, counts, out=np.full(self._users, np.nan), where=counts > 0)
        return means

    def count(self, column: int) -> int:
        """Number of values of all users."""
        return int(self._counts[column, : self._users].sum())

    def _make_room(self, user: int) -> None:
        self._users = max(self._users, user + 1)
        room = self._sums.shape[1]
        if self._users > room:
            more = ((0, 0), (0, max(room, self._users - room)))
            self._sums, self._counts = np.pad(self._sums, more), np.pad(self._counts, more)
