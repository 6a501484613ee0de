"""Measured computing times of requests, by kind and price."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass

# Weights of a new measurement in the moving mean and deviation, as for TCP's round-trip times (RFC 6298).
_MEAN_WEIGHT, _DEVIATION_WEIGHT = 1 / 8, 1 / 4
_DEVIATIONS = 2
# Price classes in each doubling of the price.
_CLASSES_PER_DOUBLING = 2
_LEAST_PRICE_S = 1e-6


@dataclass(frozen=True)
class Expected:
    """Expected computing time of a request. mean_s: mean. most_s: bound that nearly all requests of the class meet."""

    mean_s: float
    most_s: float


class Moving:
    """A moving mean and mean deviation."""

    def __init__(self, first: float) -> None:
        self.mean = first
        self.deviation = first / 2
        self._observed = 1

    @property
    def most(self) -> float:
        """A bound that nearly all values meet: the mean and four deviations."""
        return self.mean + _DEVIATIONS * self.deviation

    def observe(self, value: float) -> None:
        # The first few values have equal weights, so that an unusual first one loses its influence soon.
        self._observed += 1
        weight = max(_MEAN_WEIGHT, 1 / self._observed)
        self.deviation += max(_DEVIATION_WEIGHT, weight) * (abs(value - self.mean) - self.deviation)
        self.mean += weight * (value - self.mean)


class ServiceTimes:
    """Expected computing times, by kind of request and class of price (service/price.py).

    A price is right up to a factor of the machine. A class without a measurement is expected to take its price times
    the factor measured for its kind.
    """

    def __init__(self) -> None:
        self._classes: dict[tuple[Hashable, int], Moving] = {}
        self._scales: dict[Hashable, float] = {}

    def expected(self, kind: Hashable, price_s: float) -> Expected:
        """The expected time of a request. kind: one of a bounded number of values, such as (surface, method)."""
        found = self._classes.get((kind, _class_of(price_s)))
        if found is None:
            mean_s = price_s * self._scales.get(kind, 1.0)
            return Expected(mean_s, 2 * mean_s)
        return Expected(found.mean, found.most)

    def observe(self, kind: Hashable, price_s: float, took_s: float) -> None:
        """Records the computing time of a request that ran to its end."""
        key = kind, _class_of(price_s)
        found = self._classes.get(key)
        if found is None:
            self._classes[key] = Moving(took_s)
        else:
            found.observe(took_s)
        ratio = took_s / max(price_s, _LEAST_PRICE_S)
        scale = self._scales.get(kind)
        self._scales[kind] = ratio if scale is None else scale + _MEAN_WEIGHT * (ratio - scale)


def _class_of(price_s: float) -> int:
    return round(_CLASSES_PER_DOUBLING * math.log2(max(price_s, _LEAST_PRICE_S)))
