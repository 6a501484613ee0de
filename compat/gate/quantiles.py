"""Bounds on a quantile of latencies that hold at all looks together.

The number of values below the true quantile, out of n, is binomial. The beta-binomial mixture over its probability,
over the likelihood of the true one, reaches 1 / error rate with at most the error rate's probability at any n
(Robbins 1970; Howard and Ramdas 2022 for quantiles). Values of one user are dependent: n is divided by their design
effect (Kish 1965), the variance over users of the share beyond the quantile against that of independent values.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]
# Weight of the mixture's beta, as a number of values of which the quantile's share is below.
_PRIOR_VALUES = 50.0
_HALVINGS = 60


@dataclass(frozen=True)
class QuantileBounds:
    """low and high are together wrong with at most the error rate; infinite if values are too few."""

    value: float
    low: float
    high: float


class Sample:
    """Values with bounds on their quantile. values: may only be appended to."""

    def __init__(self, values: Iterable[float] = ()) -> None:
        self.values = array("d", values)
        self._ordered = np.empty(0)

    def bounds(self, users: Int, share: float, error_rates: Sequence[float]) -> list[QuantileBounds]:
        """Bounds on the quantile at `share`, for each error rate. users: [N], the user of each value."""
        values = np.array(self.values)
        if not len(values):
            return [QuantileBounds(math.nan, -math.inf, math.inf)] * len(error_rates)
        # A stable sort merges two sorted runs in one pass.
        added = np.sort(values[len(self._ordered) :])
        self._ordered = ordered = np.sort(np.concatenate([self._ordered, added]), kind="stable")
        value = float(ordered[math.ceil(share * len(values)) - 1])
        effective = len(values) / _design_effect(values > value, users)
        return [self._bounds(value, *_shares(share, effective, rate)) for rate in error_rates]

    def _bounds(self, value: float, low: float, high: float) -> QuantileBounds:
        """low, high: the least and the largest plausible share of values below the quantile."""
        count = len(self._ordered)
        at_low, at_high = math.floor(low * count) - 1, math.ceil(high * count) - 1
        return QuantileBounds(
            value,
            float(self._ordered[at_low]) if at_low >= 0 else -math.inf,
            float(self._ordered[at_high]) if high < 1 else math.inf,
        )


def _design_effect(is_beyond: NDArray[np.bool_], users: Int) -> float:
    share = float(is_beyond.mean())
    if not 0 < share < 1:
        return 1.0
    of_users = np.bincount(users, weights=is_beyond - share)
    return max(1.0, float((of_users**2).sum()) / (len(users) * share * (1 - share)))


def _shares(share: float, count: float, error_rate: float) -> tuple[float, float]:
    """The least and the largest share of `count` values below the quantile that are no evidence against it."""
    needed = -math.log(error_rate)

    def is_evidence(below: float) -> bool:
        a, b = share * _PRIOR_VALUES, (1 - share) * _PRIOR_VALUES
        mixed = _log_beta(a + below, b + count - below) - _log_beta(a, b)
        return mixed - below * math.log(share) - (count - below) * math.log1p(-share) >= needed

    def edge(far: float) -> float:
        """The last share from the quantile's own towards `far` that is no evidence; `far` if none is."""
        if not is_evidence(far * count):
            return far
        near = share
        for _ in range(_HALVINGS):
            middle = (near + far) / 2
            near, far = (near, middle) if is_evidence(middle * count) else (middle, far)
        return near

    return edge(0.0), edge(1.0)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
