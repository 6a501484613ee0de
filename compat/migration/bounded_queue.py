"""A bounded queue that drops and counts entries when it is full, so that adding never waits."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

# Most bytes of the entries of a queue.
QUEUE_BYTES = 64 << 20


class BoundedQueue(Generic[T]):
    """A queue bounded in entries and bytes. Thread-safe."""

    def __init__(self, limit: int, limit_bytes: int = QUEUE_BYTES) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._entries: deque[tuple[T, int]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._entries)

    def offer(self, entry: T, size_bytes: int) -> bool:
        """Adds an entry if there is room; returns whether."""
        with self._changed:
            if (
                self._closed
                or len(self._entries) >= self._limit
                or self._bytes + size_bytes > self._limit_bytes
            ):
                self.dropped += 1
                return False
            self._entries.append((entry, size_bytes))
            self._bytes += size_bytes
            self._changed.notify()
            return True

    def append(self, entry: T) -> None:
        """Adds an entry regardless of the bounds."""
        with self._changed:
            self._entries.append((entry, 0))
            self._changed.notify()

    def take(self, timeout_s: float | None = None) -> T | None:
        """Waits for the oldest entry. None once the queue is closed and empty, or where none came in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._entries or self._closed, timeout_s):
                return None
            if not self._entries:
                return None
            entry, size_bytes = self._entries.popleft()
            self._bytes -= size_bytes
            return entry

    @property
    def over(self) -> bool:
        """Whether the queue is closed and empty."""
        return self._closed and not self._entries

    def clear(self) -> None:
        """Drops all entries."""
        with self._changed:
            self.dropped += len(self._entries)
            self._entries.clear()
            self._bytes = 0

    def close(self) -> None:
        """Refuses further entries; those in the queue can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
