"""Waiting for conditions and moments."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], object], trouble: str, within_s: float = 30.0, every_s: float = 0.05
) -> None:
    """Returns once the condition is true. Raises SystemExit with `trouble` after within_s."""
    end_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end_s:
            raise SystemExit(trouble)
        time.sleep(every_s)


def sleep_until(moment_s: float) -> None:
    """Sleeps up to a moment on time.monotonic()'s clock."""
    time.sleep(max(0.0, moment_s - time.monotonic()))
