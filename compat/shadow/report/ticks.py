"""Ticks of axes."""

from __future__ import annotations

import math


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks at 1, 2 and 5 times powers of ten within the bounds, at powers alone where there are many."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**e for e in exponents for step in (1, 2, 5) if low <= step * 10.0**e <= high]
    if len(ticks) > 7:
        return [10.0**e for e in exponents if low <= 10.0**e <= high]
    return ticks
