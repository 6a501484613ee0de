"""The share of pairs for which the mesh is called again: it grows until the noise is known well enough."""

from __future__ import annotations

import time
from collections.abc import Callable

# The first share, relative to the largest.
_START = 1 / 16
# Seconds between two doublings of the share.
GROWTH_S = 30.0


class NoiseShare:
    """The share of each surface. It doubles while the interval of difference minus noise is wider than `width`."""

    def __init__(self, largest: float, width: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._largest = largest
        self._width = width
        self._clock = clock
        # By surface: the share, and the time of its last change.
        self._shares: dict[str, tuple[float, float]] = {}

    def of(self, surface: str) -> float:
        return self._at(surface)[0]

    def update(self, surface: str, width: float | None) -> None:
        """Updates the share. width: present width of the interval; None with too few users for one."""
        share, since_s = self._at(surface)
        if self._clock() - since_s >= GROWTH_S and (width is None or width > self._width):
            self._shares[surface] = min(self._largest, 2 * share), self._clock()

    def _at(self, surface: str) -> tuple[float, float]:
        return self._shares.setdefault(surface, (self._largest * _START, self._clock()))
