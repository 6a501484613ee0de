"""Bounds on a mean over users that hold at all looks together: an asymptotic confidence sequence.

A user's value is the mean of its pairs so far. An estimate with variance v has information 1 / v, and the normal
mixture of Robbins (1970) bounds its path over all information at once; one-sided in the form of Waudby-Smith, Arbour,
Sinha, Kennedy and Ramdas (2024, "Time-uniform central limit theory and asymptotic confidence sequences", appendix B).
Estimates from more pairs of the same users have the independent increments that the mixture needs: the covariance of
an earlier and a later estimate is the later one's variance.

Users who have not appeared yet may lose more. Each bound therefore adds UNSEEN_USERS users with the worst possible
value, so that a loss of few users is not missed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

# Chosen with the simulation of benchmarks/gate/errors.py.
UNSEEN_USERS = 2.0


@dataclass(frozen=True)
class Bounds:
    """A mean over users with its bounds.

    value: NaN without users. low, high: hold at all looks together; infinite with fewer than two users. users: number
    of users with a value.
    """

    value: float = math.nan
    low: float = -math.inf
    high: float = math.inf
    users: int = 0


@dataclass(frozen=True)
class Wrong:
    """The chance that a bound is wrong at any look, for the low and for the high one."""

    low: float
    high: float


def mean_bounds(values: Float, span: tuple[float, float], scale: float, wrong: Wrong) -> Bounds:
    """Bounds on the mean of users' values. The arguments are those of `double_bounds`."""
    return double_bounds(values, values, values, span, scale, wrong)


def double_bounds(
    values: Float,
    beside: Float,
    everywhere: Float,
    span: tuple[float, float],
    scale: float,
    wrong: Wrong,
) -> Bounds:
    """Bounds on the mean of a value known for a sample of the pairs, with a second value known for all pairs.

    values: [U], each user's mean over its sampled pairs, NaN without any. beside: [U], the mean of the second value
    over the same pairs. everywhere: [U], its mean over all pairs. span: the least and the largest possible value.
    scale: the distance at which bounds are narrowest. The estimate is the regression estimator of double sampling
    (Cochran 1977, section 12.6) over users, its variance that of its linear form.
    """
    is_sampled = ~np.isnan(values)
    is_there = ~np.isnan(everywhere)
    sampled, users = int(is_sampled.sum()), int(is_there.sum())
    if sampled < 2:
        return Bounds(float(values[is_sampled].sum()) if sampled else math.nan, users=sampled)
    y, x = values[is_sampled], beside[is_sampled]
    mean, x_mean, z_mean = float(y.mean()), float(x.mean()), float(everywhere[is_there].mean())
    spread = float(((x - x_mean) ** 2).sum())
    slope = float(((x - x_mean) * (y - mean)).sum()) / spread if spread > 1e-12 * sampled else 0.0
    influence = np.zeros(len(values))
    influence[is_there] = slope * (everywhere[is_there] - z_mean) / users
    influence[is_sampled] += (y - mean - slope * (x - x_mean)) / sampled
    variance = float((influence**2).sum()) * sampled / (sampled - 1)
    value = mean - slope * (x_mean - z_mean)
    return bounds_of(value, variance, sampled, span, scale, wrong)


def bounds_of(
    value: float,
    variance: float,
    users: int,
    span: tuple[float, float],
    scale: float,
    wrong: Wrong,
    unseen: float = UNSEEN_USERS,
) -> Bounds:
    """Bounds around an estimate from `users` users. unseen: number of users with the worst value to add."""
    ends = []
    for worst, sign, error_rate in zip(span, (-1, 1), (wrong.low, wrong.high), strict=True):
        share = unseen / (users + unseen)
        moved = value + share * (worst - value)
        wide = variance * (1 - share) ** 2 + unseen * ((worst - value) / (users + unseen)) ** 2
        ends.append(moved + sign * _width(wide, scale, error_rate))
    return Bounds(value, max(ends[0], span[0]), min(ends[1], span[1]), users)


def _width(variance: float, scale: float, error_rate: float) -> float:
    """The distance from an estimate to its bound on one side."""
    if variance <= 0:
        return 0.0
    # The mixture's prior has the standard deviation `scale`; `seen` is the information in units of the prior's.
    seen = scale * scale / variance
    return math.sqrt(2 * variance * (1 + 1 / seen) * math.log(1 + math.sqrt(seen + 1) / (2 * error_rate)))
