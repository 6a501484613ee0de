"""Latencies counted in logarithmic steps, whose counts can be added and give quantiles to within 6 %."""

from __future__ import annotations

import math
from collections.abc import Mapping

# Steps per factor of ten.
_STEPS = 20
_LEAST_MS, _MOST_MS = 0.01, 1e6


def step_of(latency_ms: float) -> int:
    """The step of a latency that is not NaN. It is clipped to 0.01 ms to 1,000 s, so that there are at most 160
    steps."""
    return math.floor(_STEPS * math.log10(min(max(latency_ms, _LEAST_MS), _MOST_MS)))


def quantile_ms(counts: Mapping[int, int], share: float) -> float:
    """A quantile: the middle of its step; NaN without counts."""
    left = share * sum(counts.values())
    for step in sorted(counts):
        left -= counts[step]
        if left <= 0 and counts[step]:
            return float(10 ** ((step + 0.5) / _STEPS))
    return math.nan
