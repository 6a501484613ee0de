"""Calls of several searches, alternating in a random order, and the points they make; the memory's bandwidth."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from benchmarks.kernels.data import Answers, Filter
from benchmarks.kernels.points import Point
from meshfold.model.types import Float64s

READ_BYTES = 256 << 20


class Searcher(Protocol):
    """An index with what it needs to be asked; index.py and peers.py."""

    def prepare(self, vectors: Any, terms: Any, k: int, setting: Any) -> Any: ...
    def answer(self, prepared: Any) -> Any: ...


@dataclass(frozen=True, eq=False)
class Run:
    """A searcher at one of its settings."""

    system: str
    setting: Any
    searcher: Searcher


def alternate(
    calls: Sequence[Sequence[Callable[[], Any]]], repeats: int, warm_up: bool = True, seed: int = 0
) -> Float64s:
    """Seconds of every call of every run, all of them in a random order, repeated: [runs, calls, repeats] float64.

    In a random order no run finds what another, or itself, has just read for the same query.
    """
    rng = np.random.default_rng(seed)
    pairs = [(r, c) for r, of_run in enumerate(calls) for c in range(len(of_run))]
    taken_s = np.full((len(calls), max(len(of_run) for of_run in calls), repeats), np.nan)
    for of_run in calls if warm_up else ():
        of_run[0]()
    gc.collect()
    gc.disable()
    for repeat in range(repeats):
        for place in rng.permutation(len(pairs)):
            r, c = pairs[place]
            start_s = time.perf_counter()
            calls[r][c]()
            taken_s[r, c, repeat] = time.perf_counter() - start_s
    gc.enable()
    return taken_s


@dataclass(frozen=True, eq=False)
class Case:
    """Queries of one kind with one filter: answers: the exact ones. queries: how many."""

    answers: Answers
    filter: Filter
    k: int
    batch: int
    queries: int

    def measure(self, runs: Sequence[Run], repeats: int) -> tuple[list[Point], Float64s]:
        """(a point for each run, ms of a query by run and repeat: [runs, repeats] - medians over calls)."""
        data, kind = self.answers.data, self.answers.kind
        starts = range(0, self.queries, self.batch)
        terms = [data.terms(kind, self.filter, i) for i in range(self.queries)]
        found: list[list[Any]] = [[None] * len(starts) for _ in runs]

        def call(r: int, c: int) -> Callable[[], None]:
            searcher, start = runs[r].searcher, starts[c]
            part = slice(start, start + self.batch)
            prepared = searcher.prepare(data.queries[kind][part], terms[part], self.k, runs[r].setting)

            def run() -> None:
                found[r][c] = searcher.answer(prepared)

            return run

        calls = [[call(r, c) for c in range(len(starts))] for r in range(len(runs))]
        query_ms = alternate(calls, repeats) * 1e3 / self.batch
        points = []
        for run, answers, of_run in zip(runs, found, query_ms, strict=True):
            items = np.concatenate([np.asarray(answer) for answer in answers])
            recalls = [self.answers.recall(self.filter, self.k, i, ids) for i, ids in enumerate(items)]
            p50, p95 = np.quantile(of_run, [0.5, 0.95])
            setting = "" if run.setting is None else str(run.setting)
            points.append(Point(run.system, setting, float(np.mean(recalls)), float(p50), float(p95)))
        return points, np.median(query_ms, axis=1)


class Bandwidth:
    """Memory read from end to end by the simplest means at hand; the fastest counts."""

    def __init__(self) -> None:
        # Written, since unwritten memory is one page of zeros; memchr searches for 2, which is absent.
        self._bytes = np.ones(READ_BYTES, np.uint8)
        self._numbers = torch.from_numpy(self._bytes.view(np.float32))
        self._memchr = ctypes.CDLL(None).memchr
        self._memchr.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
        self._memchr.restype = ctypes.c_void_p

    def read(self) -> None:
        """Reads all of it once: what lay in caches lies there no more."""
        self._memchr(self._bytes.ctypes.data, 2, READ_BYTES)

    def means(self, threads: int) -> dict[str, Callable[[], Any]]:
        """Ways to read all of it once. torch uses as many threads as it is set to."""

        def split() -> None:
            size = READ_BYTES // threads
            start = self._bytes.ctypes.data
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda i: self._memchr(start + i * size, 2, size), range(threads)))

        return {
            "memchr": self.read if threads == 1 else split,
            "torch.sum of float32": self._numbers.sum,
            "torch.max of int64": torch.from_numpy(self._bytes.view(np.int64)).max,
        }
