"""How long requests take, measured while they run, by classes of cost."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass

# Weights of a new measurement in the mean and in its deviation, those of TCP's round-trip times (RFC 6298).
_MEAN_WEIGHT, _DEVIATION_WEIGHT = 1 / 8, 1 / 4
_DEVIATIONS = 2
# Classes of cost in each doubling of the price.
_CLASSES_PER_DOUBLING = 2
_LEAST_PRICE_S = 1e-6


@dataclass(frozen=True)
class Expected:
    """mean_s: seconds of work. most_s: what nearly all requests of the class stay below."""

    mean_s: float
    most_s: float


class Moving:
    """A moving mean of what is observed, and of how far it deviates."""

    def __init__(self, first: float) -> None:
        self.mean = first
        self.deviation = first / 2
        self._observed = 1

    @property
    def most(self) -> float:
        """What nearly all stay below."""
        return self.mean + _DEVIATIONS * self.deviation

    def observe(self, value: float) -> None:
        # The first few count alike: a strange first one is not remembered for long.
        self._observed += 1
        weight = max(_MEAN_WEIGHT, 1 / self._observed)
        self.deviation += max(_DEVIATION_WEIGHT, weight) * (abs(value - self.mean) - self.deviation)
        self.mean += weight * (value - self.mean)


class ServiceTimes:
    """Expectations by kind of request and by its price in seconds, as service/price.py has it.

    A price is right up to the speed of the machine: a class that has not run yet is expected to take its price times
    what others of its kind took of theirs.
    """

    def __init__(self) -> None:
        self._classes: dict[tuple[Hashable, int], Moving] = {}
        self._scales: dict[Hashable, float] = {}

    def expected(self, kind: Hashable, price_s: float) -> Expected:
        """kind: of a short list, such as surface and method."""
        found = self._classes.get((kind, _class_of(price_s)))
        if found is None:
            mean_s = price_s * self._scales.get(kind, 1.0)
            return Expected(mean_s, 2 * mean_s)
        return Expected(found.mean, found.most)

    def observe(self, kind: Hashable, price_s: float, took_s: float) -> None:
        """took_s: of a request that ran to its end."""
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
