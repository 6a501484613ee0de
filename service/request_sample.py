"""A sample of callers' latest requests, in memory, by which new snapshots are warmed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

# Most requests of a surface, and most bytes of a request; longer ones are skipped.
MOST_REQUESTS, MOST_BYTES = 16, 16 << 10
# One request in this many is kept.
_EVERY = 8


class RequestSample:
    """Some of the latest requests of each surface. They are never written to disk."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[tuple[Any, bytes]]] = {}
        self._seen = 0
        self._lock = threading.Lock()

    def saw(self, surface: str, adapter: Any, message: bytes) -> None:
        """Considers a request of a served surface. Called on the loop, for every request."""
        self._seen += 1
        if len(message) > MOST_BYTES or (self._seen % _EVERY and len(self._kept.get(surface, ())) >= _EVERY):
            return
        with self._lock:
            self._kept.setdefault(surface, deque(maxlen=MOST_REQUESTS)).append((adapter, message))

    def of(self, surface: str) -> Sequence[tuple[Any, bytes]]:
        """The requests of a surface, as (adapter, message)."""
        with self._lock:
            return list(self._kept.get(surface, ()))
