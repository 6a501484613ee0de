"""Python's garbage collector while serving: short pauses, and a measurement of them.

A collection stops every thread. A full one visits every object that is not frozen: those of imported modules alone,
some 300,000 with torch's export library, take 200 ms. They live as long as the process, so they are frozen: no
collection visits them any more.

Snapshots are not frozen where it can be avoided: cycles of frozen objects are never freed. A snapshot without programs
has some 250 objects and no cycles. A graph of a program is a cycle; model/program_memory.py frees its tensors.
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

# Upper bounds of the buckets that pauses are counted in, in seconds.
PAUSE_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_GENERATIONS = 3
# Objects that are made between collections of generation 0, and collections of a generation between those of the next.
# A large request holds 100,000 objects for a while: full collections are rarer than Python's default, so that few meet
# such a request.
_THRESHOLDS = (1_000, 10, 100)
# Modules that an import must add until their objects are worth a freeze.
_MANY_MODULES = 20


class Pauses:
    """Pauses by generation, counted as collections end. Generation 2 is a full collection."""

    def __init__(self) -> None:
        self._began_s = 0.0
        self._counts = [[0] * (len(PAUSE_BUCKETS_S) + 1) for _ in range(_GENERATIONS)]
        self._total_s = [0.0] * _GENERATIONS

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """As gc.callbacks calls it: one collection at a time. Takes no lock: the thread that it interrupts may have
        it."""
        if phase == "start":
            self._began_s = perf_counter()
            return
        took_s = perf_counter() - self._began_s
        self._counts[info["generation"]][bisect_left(PAUSE_BUCKETS_S, took_s)] += 1
        self._total_s[info["generation"]] += took_s

    def __iter__(self) -> Iterator[tuple[int, list[int], float]]:
        """(generation, pauses in each of PAUSE_BUCKETS_S and above the last, seconds of all) of each generation."""
        for generation, counts in enumerate(self._counts):
            yield generation, list(counts), self._total_s[generation]


# Of the process, from the first settle() on.
pauses = Pauses()
_lock = threading.Lock()
_started = False
_modules_frozen = 0


def start() -> None:
    """Prepares the process for serving: freezes what is there and sets thresholds. Call it before snapshots are loaded.

    Takes as long as one full collection, some 100 ms. Only the first call of a process does anything.
    """
    global _started
    with _lock:
        if _started:
            return
        _started = True
        gc.set_threshold(*_THRESHOLDS)
        # Libraries look at exit for objects of theirs that nobody freed, and complain.
        atexit.register(gc.unfreeze)
        _collect_and_freeze()


def settle() -> None:
    """Frees what loading left behind. Call it after the first load, before calls are answered, and after each swap.

    After a swap it takes a few milliseconds: it visits the objects of the snapshots that are served and of the calls
    in flight. Where loading imported many modules, which the first program of a process does, their objects are frozen,
    too: that takes some 200 ms. Pauses are measured from the end of the first call on. Safe from any thread.
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
    # Garbage that is frozen would stay.
    gc.collect()
    gc.freeze()
    # Python starts a full collection when objects grew by a quarter since the last one: of few, from now on.
    gc.collect()
    _modules_frozen = len(sys.modules)


def _give_back() -> None:
    """Returns freed memory to the system. glibc keeps it between what calls allocated while a snapshot was replaced."""
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
