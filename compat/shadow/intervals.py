"""Intervals at 95 %: a bootstrap that resamples users, and exact binomial bounds."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, norm, t

from meshfold.compat.shadow.comparison import Interval

Float = NDArray[np.float64]
_ALPHA = 0.05
# Fewest users with values for an interval; with fewer, bounds are NaN.
MIN_USERS = 10
# Most draws of one interval. With many users there are fewer resamples; the distribution is near normal then.
_MAX_DRAWS = 40_000_000
_MIN_RESAMPLES = 500
_CHUNK = 2_000_000


def user_means(users: NDArray[np.int64], values: Float, count: int) -> Float:
    """The mean of each user's rows without NaN, [count, M]; NaN where a user has none.

    users: [N], the user of each row, from 0 to count - 1. values: [N, M].
    """
    means = np.full((count, values.shape[1]), np.nan)
    for column in range(values.shape[1]):
        is_known = ~np.isnan(values[:, column])
        known = np.bincount(users[is_known], minlength=count)
        sums = np.bincount(users[is_known], weights=values[is_known, column], minlength=count)
        np.divide(sums, known, out=means[:, column], where=known > 0)
    return means


def bootstrap(values: Float, resamples: int, seed: int) -> list[Interval]:
    """The mean over users and its interval, of each column.

    values: [U, M], one value a user; NaN where a user has none. Bias-corrected and accelerated (Efron 1987), with
    levels widened as Student's t is wider than the normal (Hesterberg 2015, section 5.3). All columns share the
    resamples. Bounds are NaN under MIN_USERS users.
    """
    count, columns = values.shape
    is_known = ~np.isnan(values)
    known = np.where(is_known, values, 0.0)
    users = is_known.sum(axis=0)
    if not users.any():
        return [Interval(math.nan, math.nan, math.nan)] * columns
    resampled = _resampled_means(known, is_known.astype(np.float64), resamples, seed)
    return [_interval(values[is_known[:, column], column], resampled[:, column]) for column in range(columns)]


def binomial_bounds(count: int, of: int) -> tuple[float, float]:
    """Exact bounds of a proportion (Clopper and Pearson 1934); 0 and 1 where `of` is 0."""
    low = float(beta.ppf(_ALPHA / 2, count, of - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - _ALPHA / 2, count + 1, of - count)) if count < of else 1.0
    return low, high


def _resampled_means(known: Float, is_known: Float, resamples: int, seed: int) -> Float:
    count = len(known)
    resamples = min(resamples, max(_MIN_RESAMPLES, _MAX_DRAWS // count))
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // count)
    parts = []
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = generator.integers(count, size=(rows, count))
        drawn += np.arange(rows)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
        sums, sizes = times @ known, times @ is_known
        parts.append(np.divide(sums, sizes, out=np.full(sums.shape, np.nan), where=sizes > 0))
    return np.concatenate(parts)


def _interval(values: Float, resampled: Float) -> Interval:
    if not len(values):
        return Interval(math.nan, math.nan, math.nan)
    mean = float(values.mean())
    if len(values) < MIN_USERS:
        return Interval(mean, math.nan, math.nan)
    if values.min() == values.max():
        return Interval(mean, mean, mean)
    resampled = resampled[~np.isnan(resampled)]
    below = ((resampled < mean).mean() + (resampled <= mean).mean()) / 2
    bias = norm.ppf(min(max(below, 1 / len(resampled)), 1 - 1 / len(resampled)))
    gaps = mean - values
    # The jackknife's acceleration, which for a mean is its skewness over 6 root U.
    acceleration = -(gaps**3).sum() / (6 * (gaps**2).sum() ** 1.5)
    users = len(values)
    wide = math.sqrt(users / (users - 1)) * t.ppf(_ALPHA / 2, users - 1)
    shifted = bias + np.array([wide, -wide])
    levels = norm.cdf(bias + shifted / np.maximum(1 - acceleration * shifted, 1e-3))
    low, high = np.quantile(resampled, levels)
    return Interval(mean, float(low), float(high))
