"""Settings and pause times of Python's garbage collector while the server answers calls.

A collection stops every thread. A full collection visits every object that is not frozen. The objects of imported
modules, some 300,000 with torch's export library, take 200 ms of it and live as long as the process, so they are frozen
and no collection visits them.

Snapshots are frozen only where imports make it necessary, because cycles of frozen objects are never freed. A snapshot
without programs has some 250 objects and no cycles. A program's graph is a cycle; model/program_memory.py frees its
tensors.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import sys
import threading
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from time import perf_counter

# Upper bounds of the histogram's buckets, in seconds.
PAUSE_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_GENERATIONS = 3
# gc.set_threshold(): new objects between collections of generation 0, then collections of a generation between those of
# the next. Full collections are rarer than Python's default, since a large request has 100,000 objects for a while and
# would lengthen them.
_THRESHOLDS = (1_000, 10, 100)
# Number of newly imported modules from which their objects are frozen.
_MANY_MODULES = 20


class Pauses:
    """Histogram of pauses for each generation; generation 2 is a full collection."""

    def __init__(self) -> None:
        self._began_s = 0.0
        self._counts = [[0] * (len(PAUSE_BUCKETS_S) + 1) for _ in range(_GENERATIONS)]
        self._total_s = [0.0] * _GENERATIONS

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """The callback for gc.callbacks, which runs one collection at a time. Takes no lock, since the interrupted
        thread may have it."""
        if phase == "start":
            self._began_s = perf_counter()
            return
        took_s = perf_counter() - self._began_s
        self._counts[info["generation"]][bisect_left(PAUSE_BUCKETS_S, took_s)] += 1
        self._total_s[info["generation"]] += took_s

    def __iter__(self) -> Iterator[tuple[int, list[int], float]]:
        """For each generation (generation, pauses in each of PAUSE_BUCKETS_S and above the last, total seconds)."""
        for generation, counts in enumerate(self._counts):
            yield generation, list(counts), self._total_s[generation]


# Pauses of this process, from the first settle() on.
pauses = Pauses()
_lock = threading.Lock()
_started = False
_modules_frozen = 0


def start() -> None:
    """Prepares the process for serving: freezes existing objects and sets thresholds. Call it before loading snapshots.

    Takes as long as one full collection, some 100 ms. Later calls do nothing.
    """
    global _started
    with _lock:
        if _started:
            return
        _started = True
        gc.set_threshold(*_THRESHOLDS)
        # At exit some libraries warn of their objects that were not freed.
        atexit.register(gc.unfreeze)
        _collect_and_freeze()


def settle() -> None:
    """Frees the garbage of a load. Call it after the first load, before calls are answered, and after each swap.

    After a swap it takes a few milliseconds, to visit the objects of served snapshots and of calls in flight. Where the
    load imported many modules, as the first program of a process does, it freezes their objects, which takes some
    200 ms. Pauses are measured from the end of the first call on. Safe from any thread.
    """
    with _lock:
        if len(sys.modules) - _modules_frozen >= _MANY_MODULES:
            _collect_and_freeze()
        else:
            gc.collect()
        _give_back()
        if pauses not in gc.callbacks:
            gc.callbacks.append(pauses)


def _collect_and_freeze() -> None:
    global _modules_frozen
    # Collected first, since frozen garbage would never be freed.
    gc.collect()
    gc.freeze()
    # Python starts a full collection once objects grew by a quarter since the last; this one counts the few unfrozen.
    gc.collect()
    _modules_frozen = len(sys.modules)


def _give_back() -> None:
    """Returns freed memory to the system; glibc keeps it where calls allocated memory during a replacement."""
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
