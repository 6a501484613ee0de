"""The share of pairs whose mesh is asked a second time: small at first, larger until the noise is known well enough."""

from __future__ import annotations

import time
from collections.abc import Callable

# Of the largest share.
_START = 1 / 16
# What a share gives is looked at for so long before it grows.
GROWTH_S = 30.0


class NoiseShare:
    """By surface. It doubles while the interval of difference minus noise is wider than `width`."""

    def __init__(self, largest: float, width: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._largest = largest
        self._width = width
        self._clock = clock
        # By surface: the share, and since when.
        self._shares: dict[str, tuple[float, float]] = {}

    def of(self, surface: str) -> float:
        return self._at(surface)[0]

    def told(self, surface: str, width: float | None) -> None:
        """width: of the interval now; None where there are too few users for one."""
        share, since_s = self._at(surface)
        if self._clock() - since_s >= GROWTH_S and (width is None or width > self._width):
            self._shares[surface] = min(self._largest, 2 * share), self._clock()

    def _at(self, surface: str) -> tuple[float, float]:
        return self._shares.setdefault(surface, (self._largest * _START, self._clock()))
