"""Counts refused calls, and logs them at a bounded rate."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import grpc

_log = logging.getLogger(__name__)

# Seconds between two lines of the log.
_LOG_S = 10.0
# Statuses caused by the server's state; the others are callers' mistakes.
_OF_THE_SERVER = {code.name for code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)}


class Refusals:
    """Logs the first refusal at once and later ones together. Used on one loop."""

    def __init__(self) -> None:
        # Refused calls by status, since the server started.
        self.counts: Counter[str] = Counter()
        self._untold: Counter[str] = Counter()
        self._last = ""
        self._timer: asyncio.TimerHandle | None = None

    def note(self, code: grpc.StatusCode, text: str) -> None:
        """Counts a refusal. text: the reason, without data of the caller or request; "" where it might have some."""
        self.counts[code.name] += 1
        self._untold[code.name] += 1
        self._last = text or self._last
        if self._timer is None:
            self._tell()

    def _tell(self) -> None:
        since = "" if self._timer is None else f" within_s={_LOG_S:g}"
        self._timer = None
        if not self._untold:
            return
        codes = " ".join(f"{code}={count}" for code, count in self._untold.most_common())
        level = logging.WARNING if self._untold.keys() & _OF_THE_SERVER else logging.INFO
        _log.log(level, "calls refused: %s%s%s", codes, since, f": {self._last}" if self._last else "")
        self._untold.clear()
        self._last = ""
        self._timer = asyncio.get_running_loop().call_later(_LOG_S, self._tell)
