"""Figures over the latest pairs of a surface, one value a user."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from meshfold.compat.shadow.intervals import Float, bootstrap, user_means
from meshfold.compat.shadow.pair_measures import PairMeasures
from meshfold.compat.shadow.pairs import Pair

LATEST = 2000
_RESAMPLES = 500
# Seconds between computations of the interval, which takes some 20 ms.
_INTERVAL_S = 5.0
_OVERLAP, _RBO, _LATENCY_MS = "overlap@100", "rbo", "latency_difference_ms"


class Recent:
    """The latest pairs of one surface. A pair without a user counts as a separate user."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # (user, overlap, rbo, latency of the model minus that of the mesh in seconds)
        self._pairs: deque[tuple[str, float, float, float]] = deque(maxlen=LATEST)
        # (user, overlap, noise overlap, noise rbo)
        self._noise: deque[tuple[str, float, float, float]] = deque(maxlen=LATEST)
        self._width_s = -math.inf
        self._width = math.nan

    def add(self, pair: Pair, measured: PairMeasures) -> None:
        difference, noise = measured.difference, measured.noise
        if difference is None:
            return
        user = pair.user_key or f"request {pair.request_id}"
        self._pairs.append((user, difference[_OVERLAP], difference[_RBO], difference[_LATENCY_MS] / 1000))
        if noise is not None:
            self._noise.append((user, difference[_OVERLAP], noise[_OVERLAP], noise[_RBO]))

    def figures(self) -> dict[str, float]:
        """The known figures, by the names of Tally.recent."""
        found: dict[str, float] = {}
        if self._pairs:
            values = _values(self._pairs)
            found["overlap"], found["rbo"] = _means(self._pairs, values[:, :2]).mean(axis=0).tolist()
            late = values[:, 2][~np.isnan(values[:, 2])]
            if len(late):
                found["latency_p50_s"], found["latency_p99_s"] = np.quantile(late, (0.5, 0.99)).tolist()
        if self._noise:
            values = _values(self._noise)
            means = _means(self._noise, np.column_stack([values[:, 0] - values[:, 1], values[:, 1:]]))
            excess, found["noise_overlap"], found["noise_rbo"] = means.mean(axis=0).tolist()
            found["excess_overlap"] = excess
            if self._clock() - self._width_s >= _INTERVAL_S:
                self._width_s = self._clock()
                interval = bootstrap(means[:, :1], _RESAMPLES, seed=0)[0]
                self._width = interval.high - interval.low
            found["noise_width"] = self._width
        return {name: value for name, value in found.items() if math.isfinite(value)}


def _values(rows: Sequence[tuple[str, float, float, float]]) -> Float:
    return np.array([row[1:] for row in rows], np.float64)


def _means(rows: Sequence[tuple[str, float, float, float]], values: Float) -> Float:
    """The mean of each user's rows: [users, columns]."""
    numbers: dict[str, int] = {}
    users = np.array([numbers.setdefault(row[0], len(numbers)) for row in rows], np.int64)
    return user_means(users, values, len(numbers))
