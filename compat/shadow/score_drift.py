"""Score drift: the distance of model scores from a monotone function of mesh scores, on common items."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from meshfold.compat.shadow.comparison import Drift
from meshfold.compat.shadow.intervals import bootstrap
from meshfold.compat.shadow.pair_measures import share_of

Float = NDArray[np.float64]
# Most pairs kept, those of the smallest hashes; more would change the fit by far less than the interval's width.
_MAX_PAIRS = 20_000
# Fewest common items of either half of the pairs.
_MIN_ITEMS = 20
_MAX_CURVE, _MAX_POINTS = 200, 500


class _Kept(NamedTuple):
    share: float
    request_id: str
    user: int
    scores: Float


class ScoreSample:
    """Scores of common items of a bounded sample of pairs."""

    def __init__(self) -> None:
        self._kept: list[_Kept] = []

    def add(self, request_id: str, user: int, scores: Float) -> None:
        """Adds a pair's common items. scores: [n, 2], columns mesh and model."""
        if not len(scores):
            return
        self._kept.append(_Kept(share_of(request_id, "drift"), request_id, user, scores))
        if len(self._kept) >= 2 * _MAX_PAIRS:
            self._trim()

    def drift(self, resamples: int, seed: int) -> Drift | None:
        """Fits on half of the pairs and measures the error on the other half; None where either has too few items.

        One value a user: the median absolute difference of its items, over the interquartile range of model scores.
        """
        self._trim()
        halves: tuple[list[_Kept], list[_Kept]] = ([], [])
        for kept in self._kept:
            halves[share_of(kept.request_id, "fit") < 0.5].append(kept)
        if min(sum(len(kept.scores) for kept in half) for half in halves) < _MIN_ITEMS:
            return None
        fitted, tested = (np.concatenate([kept.scores for kept in half]) for half in halves)
        knots, values = monotone_fit(fitted[:, 0], fitted[:, 1])
        errors = np.abs(tested[:, 1] - np.interp(tested[:, 0], knots, values))
        low, high = np.quantile(tested[:, 1], [0.25, 0.75])
        errors = errors / (high - low) if high > low else np.full(len(errors), math.nan)
        users = np.repeat([kept.user for kept in halves[1]], [len(kept.scores) for kept in halves[1]])
        [error] = bootstrap(_user_medians(users, errors)[:, None], resamples, seed)
        curve = _thinned(np.column_stack([knots, values]), _MAX_CURVE)
        points = _thinned(tested, _MAX_POINTS)
        return Drift(error, len(tested), _tuples(curve), _tuples(points))

    def _trim(self) -> None:
        self._kept.sort(key=lambda kept: kept[:2])
        del self._kept[_MAX_PAIRS:]


def monotone_fit(x: Float, y: Float) -> tuple[Float, Float]:
    """Least squares of y by a monotone function of x, rising or falling, whichever is closer.

    Returns knots [n], ascending, and values [n], between which the fit is linear.
    """
    knots, groups, sizes = np.unique(x, return_inverse=True, return_counts=True)
    means = np.bincount(groups, weights=y) / sizes
    fits = [isotonic_regression(means, weights=sizes, increasing=rises).x for rises in (True, False)]
    values = min(fits, key=lambda fit: float((sizes * (fit - means) ** 2).sum()))
    # A stretch of equal values has knots only at its ends.
    is_level = values[1:] == values[:-1]
    is_knot = np.ones(len(knots), np.bool_)
    is_knot[1:-1] = ~(is_level[:-1] & is_level[1:])
    return knots[is_knot], values[is_knot]


def _user_medians(users: NDArray[np.int64], values: Float) -> Float:
    order = np.argsort(users, kind="stable")
    bounds = np.flatnonzero(np.diff(users[order])) + 1
    return np.array([np.median(part) for part in np.split(values[order], bounds)])


def _thinned(rows: Float, most: int) -> Float:
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]


def _tuples(rows: Float) -> tuple[tuple[float, float], ...]:
    return tuple((x, y) for x, y in rows.tolist())
