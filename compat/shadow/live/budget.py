"""A budget of events per second."""

from __future__ import annotations

import time
from collections.abc import Callable


class Budget:
    """A token bucket: `rate_hz` events per second on average, `burst` at once. Not thread-safe."""

    def __init__(self, rate_hz: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate_hz = rate_hz
        self._burst = max(1.0, burst)
        self._clock = clock
        self._left = self._burst
        self._filled_s = clock()

    def take(self) -> bool:
        """Takes a token; returns whether there was one."""
        now_s = self._clock()
        self._left = min(self._burst, self._left + (now_s - self._filled_s) * self._rate_hz)
        self._filled_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True
