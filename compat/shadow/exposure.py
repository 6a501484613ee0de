"""Exposure: shares of results with each value of items' fields, model over mesh."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, t

from meshfold.compat.shadow.comparison import Catalog, Exposure, Interval
from meshfold.compat.shadow.intervals import MIN_USERS
from meshfold.compat.shadow.pair_measures import share_of

Int = NDArray[np.int64]
Float = NDArray[np.float64]
_TOP = 10
_ALPHA = 0.05
# Most values of one field; later values are left out.
_MAX_VALUES = 10_000
_CACHED_ITEMS = 200_000
_BUFFERED_ROWS = 500_000
# Most rows (user, value); beyond them a smaller sample of users is kept.
_MAX_ROWS = 4_000_000
# Columns of counts: mesh and model results in the top 10, then in all.
_COUNTS = 4


@dataclass(frozen=True, eq=False)
class ShareSums:
    """Sums over users of their shares of results with each value. users: number of users with results of both sides.

    support: [V], number of users who were shown the value. mesh, model, and squares and products of both: [V].
    """

    users: int
    support: Int
    mesh: Float
    model: Float
    mesh_squared: Float
    model_squared: Float
    product: Float

    def of(self, value: int) -> tuple[float, float, float, float, float]:
        """The five sums of a value, in their order."""
        sums = (self.mesh, self.model, self.mesh_squared, self.model_squared, self.product)
        mesh, model, mesh_squared, model_squared, product = (float(one[value]) for one in sums)
        return mesh, model, mesh_squared, model_squared, product


class ExposureCounts:
    """Counts how often each side showed each value to each user."""

    def __init__(self, catalog: Catalog) -> None:
        self.values_left_out = 0
        self._fields = tuple(catalog.fields)
        self._codes: list[dict[str, int]] = [{} for _ in self._fields]
        self._names: list[tuple[str, str]] = []
        self._codes_of: Callable[[int | str], tuple[int, ...]] = lru_cache(_CACHED_ITEMS)(
            lambda item_id: self._look_up(catalog, item_id)
        )
        self._buffer = array("q")
        self._rows = np.empty((0, 2 + _COUNTS), np.int64)
        self._totals: dict[int, list[int]] = {}
        self._shares: dict[int, float] = {}
        self._share = 1.0

    @property
    def user_share(self) -> float:
        """The share of users, by a hash, that is kept in memory."""
        return self._share

    def add(
        self,
        user: int,
        user_share: float,
        mesh_ids: Sequence[int | str],
        model_ids: Sequence[int | str],
    ) -> None:
        """Adds a pair's results. user_share: a hash of the user from 0 to 1."""
        if user_share >= self._share or not self._fields:
            return
        self._shares[user] = user_share
        lists = (mesh_ids[:_TOP], model_ids[:_TOP], mesh_ids, model_ids)
        totals = self._totals.setdefault(user, [0] * _COUNTS)
        for place, items in enumerate(lists):
            totals[place] += len(items)
        counts = [Counter(chain.from_iterable(map(self._codes_of, items))) for items in lists]
        for code in counts[2].keys() | counts[3].keys():
            self._buffer.extend((code, user, *(count[code] for count in counts)))
        if len(self._buffer) >= _BUFFERED_ROWS * (2 + _COUNTS):
            self._compact()

    def exposures(self, min_users: int, most: int) -> tuple[Exposure, ...]:
        """The exposure of each value shown to at least min_users users, in the top 10 and in all results.

        A user's share is that of its results; shares are means over users who had results of both sides. The ratio's
        interval is Fieller's (1954), which holds where the model never shows the value; bounds are NaN where the mesh's
        share may be 0. p: a paired t test of the shares; q: corrected for all values of the surface (Benjamini and
        Hochberg). Order: q up to 0.05 first, then the ratio farthest from 1.
        """
        found: list[Exposure] = []
        p_values: list[float] = []
        for depth in (_TOP, 0):
            sums = self.share_sums(depth)
            if sums.users < max(min_users, MIN_USERS):
                continue
            for code in np.flatnonzero(sums.support >= min_users).tolist():
                exposure, p = _exposure(self._names[code], depth, sums.of(code), sums.users)
                found.append(exposure)
                p_values.append(p)
        if not found:
            return ()
        q_values = false_discovery_control(p_values).tolist()
        found = [
            Exposure(e.field, e.value, e.depth, e.mesh_share, e.model_share, e.ratio, q)
            for e, q in zip(found, q_values, strict=True)
        ]
        found.sort(key=lambda e: (e.q > _ALPHA, -_distance(e.ratio.value), e.field, e.value, e.depth))
        return tuple(found[:most])

    @property
    def names(self) -> Sequence[tuple[str, str]]:
        """Each value's field and text, in the order of its sums."""
        return self._names

    def share_sums(self, depth: int) -> ShareSums:
        """The sums over users' shares. depth: 10 for the top 10 results; 0 for all."""
        self._compact()
        first = 0 if depth else 2
        users = np.array(sorted(self._totals), np.int64)
        totals = np.array([self._totals[user] for user in users.tolist()], np.int64).reshape(-1, _COUNTS)
        has_results = totals[:, first : first + 2].min(axis=1, initial=1) > 0
        rows = self._rows
        at = np.searchsorted(users, rows[:, 1])
        shown = rows[:, 2 + first : 4 + first]
        is_kept = has_results[at] & (shown.sum(axis=1) > 0)
        mesh, model = (shown[is_kept] / totals[at[is_kept], first : first + 2]).T
        codes = rows[is_kept, 0]

        def sums(weights: Float) -> Float:
            summed: Float = np.bincount(codes, weights=weights, minlength=len(self._names)).astype(np.float64)
            return summed

        return ShareSums(
            users=int(has_results.sum()),
            support=np.bincount(codes, minlength=len(self._names)),
            mesh=sums(mesh),
            model=sums(model),
            mesh_squared=sums(mesh * mesh),
            model_squared=sums(model * model),
            product=sums(mesh * model),
        )

    def _look_up(self, catalog: Catalog, item_id: int | str) -> tuple[int, ...]:
        found = []
        for field, codes in zip(self._fields, self._codes, strict=True):
            for value in dict.fromkeys(catalog.values(item_id, field)):
                code = codes.get(value)
                if code is None:
                    if len(codes) >= _MAX_VALUES:
                        self.values_left_out += 1
                        continue
                    code = codes[value] = len(self._names)
                    self._names.append((field, value))
                found.append(code)
        return tuple(found)

    def _compact(self) -> None:
        added = np.array(self._buffer, np.int64).reshape(-1, 2 + _COUNTS)
        self._buffer = array("q")
        rows = np.concatenate([self._rows, added])
        keys, groups = np.unique(rows[:, 0] << 32 | rows[:, 1], return_inverse=True)
        self._rows = np.empty((len(keys), 2 + _COUNTS), np.int64)
        self._rows[:, 0], self._rows[:, 1] = keys >> 32, keys & 0xFFFFFFFF
        for column in range(2, 2 + _COUNTS):
            sums = np.bincount(groups, weights=rows[:, column], minlength=len(keys))
            self._rows[:, column] = sums.astype(np.int64)
        while len(self._rows) > _MAX_ROWS:
            self._share /= 2
            left = {user for user, share in self._shares.items() if share < self._share}
            self._totals = {user: self._totals[user] for user in left}
            self._shares = {user: self._shares[user] for user in left}
            self._rows = self._rows[np.isin(self._rows[:, 1], np.fromiter(left, np.int64, len(left)))]


def user_share_of(user_key: str, request_id: str) -> float:
    """A hash of the user from 0 to 1; of the request where the user is unknown."""
    return share_of(user_key or request_id, "exposure")


def _exposure(name: tuple[str, str], depth: int, sums: Sequence[float], count: int) -> tuple[Exposure, float]:
    mesh, model = sums[0] / count, sums[1] / count
    # Variances of the two means and their covariance.
    mesh_variance, model_variance, covariance = (
        (sums[place] / count - product) / (count - 1)
        for place, product in ((2, mesh * mesh), (3, model * model), (4, mesh * model))
    )
    ratio = model / mesh if mesh else math.inf
    low = high = math.nan
    squared = float(t.ppf(1 - _ALPHA / 2, count - 1)) ** 2
    quadratic = mesh * mesh - squared * mesh_variance
    if quadratic > 0:
        linear = mesh * model - squared * covariance
        constant = model * model - squared * model_variance
        root = math.sqrt(max(0.0, linear * linear - quadratic * constant))
        low, high = max(0.0, (linear - root) / quadratic), max(0.0, (linear + root) / quadratic)
    variance = mesh_variance + model_variance - 2 * covariance
    if variance > 1e-18:
        p = 2 * float(t.sf(abs(model - mesh) / math.sqrt(variance), count - 1))
    else:
        p = float(math.isclose(model, mesh, rel_tol=1e-9))
    return Exposure(name[0], name[1], depth, mesh, model, Interval(ratio, low, high)), p


def _distance(ratio: float) -> float:
    return abs(math.log(ratio)) if 0 < ratio < math.inf else math.inf
