"""Measures the fastest settings of a search on this device, with a snapshot; kernels/search/tuning.py has the settings.

Queries are drawn like items and like users. Filters pass from all items to one in a thousand, decided by a plane of the
signature or by a column. Settings are chosen one after the other, by the geometric mean over all of these workloads.
They take turns, so that other load of the machine affects all equally.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import fmean, median

import numpy as np
import torch
from torch import Tensor

from meshfold.kernels.filter.bundles import pack
from meshfold.kernels.filter.steps import FilterBatch, FilterTensors, Op
from meshfold.kernels.native import library
from meshfold.kernels.search.tensors import Found
from meshfold.kernels.search.tuning import Tuning, using
from meshfold.kernels.vectors.quantize import Quantized
from meshfold.model.errors import InvalidConfig
from meshfold.model.index.calibration import item_like_queries, user_like_queries
from meshfold.model.index.ivf import IvfIndex
from meshfold.model.progress import Progress, silent
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.snapshot import Snapshot

QUERIES = {"item-like": item_like_queries, "user-like": user_like_queries}
PASS_RATES = (1.0, 0.1, 0.01, 0.001)
BATCHES = (1, 8)
CANDIDATES = {
    "gather": (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0),
    "filter_first": (0.0, 0.25, 0.5, 2.0, 4.0, 8.0),
    "scan_ahead": (0.0, 8192.0, 16384.0, 32768.0),
}
# Least gain that changes a setting; a smaller one may be noise.
LEAST_GAIN = 0.02
_PLANE, _COLUMN = "plane", "column"
_SEED = 0


@dataclass(frozen=True, eq=False)
class Workload:
    """A batch of queries of one kind, all with one filter."""

    kind: str
    pass_rate: float
    filter: str
    vectors: Tensor
    programs: FilterBatch

    @property
    def batch(self) -> int:
        return self.vectors.shape[0]


@dataclass(frozen=True)
class Timing:
    """Median times of one workload with the default settings and with the chosen ones."""

    kind: str
    pass_rate: float
    filter: str
    batch: int
    before_ms: float
    after_ms: float


@dataclass(frozen=True)
class Tuned:
    tuning: Tuning
    timings: tuple[Timing, ...]

    @property
    def gain(self) -> float:
        """The geometric mean of before / after, less 1."""
        return math.exp(fmean(math.log(t.before_ms / t.after_ms) for t in self.timings)) - 1


def tune(snapshot: Snapshot, rounds: int, progress: Progress = silent) -> Tuned:
    """The fastest settings for the snapshot. Raises InvalidConfig where the native kernels do not run."""
    if not library.is_available():
        raise InvalidConfig(
            "only the native kernels have something to tune, and they do not run here: install a C++ compiler with"
            " OpenMP and meshfold again, or unset MESHFOLD_KERNELS"
        )
    bench = _Bench(snapshot, rounds, progress)
    chosen = Tuning()
    for name, values in CANDIDATES.items():
        options = [chosen, *(replace(chosen, **{name: value}) for value in values)]
        times = bench.medians_ms(options, f"trying {name}")
        scores = [fmean(math.log(ms) for ms in of_option) for of_option in times]
        fastest = min(range(len(options)), key=scores.__getitem__)
        if scores[fastest] < scores[0] - math.log1p(LEAST_GAIN):
            chosen = options[fastest]
    tuned = bench.compare(chosen)
    # Measured a second time, since a setting may have been fastest by chance.
    return tuned if tuned.gain >= LEAST_GAIN else bench.compare(Tuning())


class _Bench:
    def __init__(self, snapshot: Snapshot, rounds: int, progress: Progress) -> None:
        self._index: IvfIndex = RetrievalModel.of(snapshot).index
        n = snapshot.content.items
        self._depth = min(snapshot.content.config.candidates_on("cpu"), n)
        self._rounds, self._progress = rounds, progress
        self._filter, filters = _filters(n)
        self.workloads = [
            _workload(self._index, kind, rate, decided_by, batch, programs)
            for kind, batch, (rate, decided_by, programs) in product(QUERIES, BATCHES, filters)
        ]
        with using(Tuning()):
            self._answers = [self._search(workload) for workload in self.workloads]

    def medians_ms(self, options: Sequence[Tuning], stage: str) -> list[list[float]]:
        """The median of each workload, for each option. Checks that all answers are equal."""
        taken: list[list[list[float]]] = [[[] for _ in self.workloads] for _ in options]
        for done in range(self._rounds):
            self._progress(stage, done, self._rounds)
            # Rotated, so that each option is first equally often.
            for o in ((place + done) % len(options) for place in range(len(options))):
                # All other workloads run between two searches of one, so that options do not share caches.
                for i, (workload, answer) in enumerate(zip(self.workloads, self._answers, strict=True)):
                    with using(options[o]):
                        start = time.perf_counter()
                        found = self._search(workload)
                        taken[o][i].append((time.perf_counter() - start) * 1e3)
                    if not _equal(found, answer):
                        raise RuntimeError(f"a search answered otherwise with {options[o]}")
        self._progress(stage, self._rounds, self._rounds)
        return [[median(ms) for ms in of_option] for of_option in taken]

    def compare(self, tuning: Tuning) -> Tuned:
        """Compares settings with the default ones."""
        before, after = self.medians_ms([Tuning(), tuning], "comparing")
        return Tuned(
            tuning,
            tuple(
                Timing(w.kind, w.pass_rate, w.filter, w.batch, *ms)
                for w, *ms in zip(self.workloads, before, after, strict=True)
            ),
        )

    def _search(self, workload: Workload) -> Found:
        depth = torch.full((workload.batch,), self._depth)
        with torch.inference_mode():
            return self._index.search(workload.vectors, self._filter, workload.programs, depth, self._depth)


def _workload(
    index: IvfIndex, kind: str, rate: float, decided_by: str, batch: int, programs: FilterBatch
) -> Workload:
    items = Quantized(index.codes, index.residuals, index.units)
    vectors = QUERIES[kind](items, batch, _SEED).unsqueeze(1)
    steps, values, value_rows, excluded = (
        tensor.expand(batch, *tensor.shape[1:])
        for tensor in (programs.steps, programs.values, programs.value_rows, programs.excluded)
    )
    return Workload(kind, rate, decided_by, vectors, FilterBatch(steps, values, value_rows, excluded))


def _filters(items: int) -> tuple[FilterTensors, list[tuple[float, str, FilterBatch]]]:
    """Two fields of random members, and programs of each pass rate, decided by a plane of one or the column of the
    other."""
    rates = [rate for rate in PASS_RATES if rate < 1]
    places = torch.from_numpy(np.random.default_rng(_SEED).permutation(items).astype(np.int32))
    everything = torch.ones(items, dtype=torch.bool)
    planes = [
        pack(members) for members in (everything, everything, *(places < rate * items for rate in rates))
    ]
    one_value = torch.empty(0, dtype=torch.int64)
    tensors = FilterTensors(torch.stack(planes, 1), [places, places], [one_value, one_value])
    filters = [(1.0, "", FilterBatch.everything(1))]
    for place, rate in enumerate(rates):
        filters.append((rate, _PLANE, _program([Op.PLANE, 0, 0, 1], [0], 2 + place)))
        filters.append((rate, _COLUMN, _program([Op.RANGE, 1, 0, 2], [0, math.ceil(rate * items) - 1], 0)))
    return tensors, filters


def _program(step: list[int], values: list[int], row: int) -> FilterBatch:
    rows = torch.full((1, len(values), 1), row)
    return FilterBatch(
        torch.tensor([[step]]), torch.tensor([values]), rows, torch.empty((1, 0), dtype=torch.int64)
    )


def _equal(found: Found, answer: Found) -> bool:
    pairs: list[tuple[Tensor, Tensor]] = [
        (found.positions, answer.positions),
        (found.opened, answer.opened),
        (found.scored, answer.scored),
        (found.sampled, answer.sampled),
    ]
    return all(torch.equal(left, right) for left, right in pairs)
