"""Latencies counted in steps of a logarithmic scale, so that counts add up and quantiles stay known to within 6 %."""

from __future__ import annotations

import math
from collections.abc import Mapping

# Steps of a factor of ten.
_STEPS = 20
_LEAST_MS, _MOST_MS = 0.01, 1e6


def step_of(latency_ms: float) -> int:
    """Of a latency that is a number. It is cut to 0.01 ms to 1,000 s, so that there are at most 160 steps."""
    return math.floor(_STEPS * math.log10(min(max(latency_ms, _LEAST_MS), _MOST_MS)))


def quantile_ms(counts: Mapping[int, int], share: float) -> float:
    """The middle of the step that holds it; NaN where nothing was counted."""
    left = share * sum(counts.values())
    for step in sorted(counts):
        left -= counts[step]
        if left <= 0 and counts[step]:
            return float(10 ** ((step + 0.5) / _STEPS))
    return math.nan
