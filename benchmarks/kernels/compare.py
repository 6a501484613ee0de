"""The native kernels beside Faiss, pyroaring and plain torch: in one process, alternating call by call.

    python -m benchmarks.kernels.compare                # 1,000,000 items, about ten minutes
    python -m benchmarks.kernels.compare --headlines    # only the cases of the last line, about three
    python -m benchmarks.kernels.compare --minutes 5    # stops after five; the next run goes on from there
    python -m benchmarks.kernels.compare --quick        # 20,000 items: that everything runs, not how fast

Every side at its best settings: recall is measured for many, and times are compared where recall is the same.
Filters are evaluated on the clock, on both sides. What each file does stands at its top: data.py (items,
queries, filters, exact answers), index.py (ours), peers.py, timing.py.
"""

from __future__ import annotations

import gc
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import pyroaring
import torch

from benchmarks.arguments import arguments
from benchmarks.kernels import index, peers
from benchmarks.kernels.data import DEPTHS, FILTERS, KINDS, Data, Filter
from benchmarks.kernels.headlines import (
    at_target,
    beside,
    best_at_target,
    fast_scan,
    figures_of_pair,
    same_lists,
    summary,
)
from benchmarks.kernels.parts import batch_rows, mask_rows, scan_rows
from benchmarks.kernels.points import (
    DEFAULT,
    FAISS,
    FAST_SCAN,
    IN_LISTS,
    REFERENCE,
    ROARING,
    SQ8,
    UNIFORM,
    Point,
    best_of,
    figures_of,
)
from benchmarks.kernels.timing import Case, Run
from benchmarks.report import bench
from benchmarks.rows import ROOT, Row, Unfinished, write_rows
from meshfold.commands import console
from meshfold.kernels.native import library
from meshfold.model.progress import Progress

NAME = "kernels"
# Read when OpenMP and malloc start. Idle threads of one runtime that spin would take the time of the other: Faiss
# brings one of its own beside torch's. And large arrays of all sides lie in huge pages, malloc's as numpy's.
ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
# Codes of a fast scan and how many candidates for each result are refined, by results wanted: those that were the
# quickest at some recall when tried; 1-bit codes (RaBitQ) never were.
FAST_SCANS = {
    100: (("PQ32x4fs", 16), ("PQ64x4fs", 4), ("PQ64x4fs", 16), ("PQ128x4fs", 16)),
    1000: (("PQ64x4fs", 1.5), ("PQ64x4fs", 4), ("PQ64x4fs", 8), ("PQ128x4fs", 2)),
    10_000: (("PQ64x4fs", 1.5), ("PQ64x4fs", 2), ("PQ128x4fs", 1.5), ("PQ128x4fs", 2)),
}
# Survivors that we compare from 16 bits for each result wanted.
RESCORED = (2, 2.25, 2.5, 3)
ALL, TENTH, THOUSANDTH = FILTERS[0], FILTERS[1], FILTERS[3]
# Filters with the plain torch reference beside: some hundred times slower, it runs a few queries.
REFERENCED = FILTERS[:4]
# Cases of the last line, measured with more queries and repeats: (filter, results).
HEADLINES = ((ALL, 1000), (TENTH, 1000), (THOUSANDTH, 100))


@dataclass(frozen=True)
class Effort:
    """queries of a headline and repeats; queries of the other cases; repeats of single operations."""

    items: int
    headline_queries: int
    headline_repeats: int
    queries: int
    repeats: int
    filters: Sequence[Filter] = FILTERS
    depths: Sequence[int] = DEPTHS
    headlines_only: bool = False

    def cases(self) -> list[tuple[str, Filter, int]]:
        """(queries, filter, results wanted) of every curve."""
        every = [(kind, f, k) for kind in KINDS for f in self.filters for k in self.depths]
        return [case for case in every if not self.headlines_only or case[1:] in HEADLINES]


FULL = Effort(1_000_000, 64, 3, 16, 30)
QUICK = Effort(20_000, 16, 1, 16, 3, filters=FILTERS[:4], depths=DEPTHS[:2])


def main() -> None:
    parser = arguments(__doc__, keep=True, dimension=128)
    parser.add_argument("--quick", action="store_true", help="20,000 items and few repeats: a smoke test")
    parser.add_argument("--headlines", action="store_true", help="only the cases that the last line tells of")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop then; a run goes on from there")
    parser.add_argument(
        "--folder",
        type=Path,
        default=ROOT / "build" / "bench-kernels",
        help="where data and indices are kept between runs",
    )
    args = parser.parse_args()
    if args.keep and (args.quick or args.headlines):
        parser.error("what is kept is a whole run: --keep goes without --quick and --headlines")
    if any(name not in os.environ for name in ENVIRONMENT):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], ENVIRONMENT | os.environ)
    effort = replace(QUICK if args.quick else FULL, headlines_only=args.headlines)
    with torch.inference_mode(), console.progress() as progress:
        compared = Bench(args.folder, effort, args.dimension, progress)
        # Loaded objects stay; collections between measurements skip them.
        gc.collect()
        gc.freeze()
        rows = compared.measure(time.monotonic() + 60 * args.minutes)
    if rows is None:
        console.print("not all is measured yet; run it again")
        return
    told = summary(rows)
    for case, figures in beside(rows):
        console.print(f"{case}: {', '.join(f'{name} {value:.4g}' for name, value in figures.items())}")
    if args.keep:
        console.print(f"rows written to {write_rows(rows)}")
        for module in ("benchmarks.kernels.plots", "benchmarks.tables"):
            subprocess.run([sys.executable, "-m", module], check=True)
    bench({"name": NAME, **told})


class Bench:
    """Everything loaded, and what is measured on it."""

    def __init__(self, folder: Path, effort: Effort, dimension: int, progress: Progress) -> None:
        self._effort, self._progress = effort, progress
        folder = folder / f"{effort.items}x{dimension}"
        self._data = data = Data.load(folder, effort.items, dimension, effort.headline_queries)
        self._answers = {kind: data.answers(kind) for kind in KINDS}
        self._threads = peers.Threads()
        self._postings = peers.Postings(data)
        self._faiss = peers.Faiss(data, self._postings, self._threads)
        self._roaring = peers.Roaring(data, self._postings, self._threads)
        snapshot = index.published(data, progress)
        self._budget = snapshot.content.scan_budget
        self._default = index.default_index(snapshot)
        self._in_lists = index.index_in_lists(snapshot, self._faiss.centroids, self._faiss.members)
        self._reference = index.Reference(self._in_lists)
        self._config = {
            "items": effort.items,
            "dimension": dimension,
            "lists": self._faiss.lists,
            "clusters": snapshot.content.clusters,
            "kernels": library.level(),
        }

    def measure(self, until_s: float) -> list[Row] | None:
        """All rows; None where the time was up before. What was measured by then waits for the next run."""
        self._use(1)
        unfinished = Unfinished(self._data.folder / "unfinished.json", self._config)
        rows = unfinished.rows("parts", self._parts)
        cases = self._effort.cases()
        for done, (kind, filter_, k) in enumerate(cases):
            self._progress("curves", done, len(cases))
            if time.monotonic() > until_s:
                return None
            case = f"{kind}, {filter_.name}, top {k}, {self._effort.headlines_only}"
            rows += unfinished.rows(case, partial(self._case, kind, filter_, k))
        self._progress("curves", len(cases), len(cases))
        unfinished.remove()
        return rows

    def _parts(self) -> list[Row]:
        repeats = self._effort.repeats
        parts = [
            *scan_rows(self._in_lists, self._data, self._use, repeats),
            *mask_rows(self._default, self._postings, self._data, self._use, repeats),
            *batch_rows(self._in_lists, self._data, self._use, repeats),
        ]
        return [self._row(part.case, part.config, part.figures) for part in parts]

    def _case(self, kind: str, filter_: Filter, k: int) -> list[Row]:
        """One query at a time on one thread at every setting; then batches and threads at the best of them."""
        effort, headline = self._effort, (filter_, k) in HEADLINES
        queries = effort.headline_queries if headline else effort.queries
        repeats = effort.headline_repeats if headline else 1
        runs = list(self._runs(filter_, k))
        answers = self._answers[kind]
        points, _ = Case(answers, filter_, k, 1, queries).measure(runs, repeats)
        if filter_ in REFERENCED and k == 1000 and not effort.headlines_only:
            reference = Run(REFERENCE, self._faiss.lists // 8, self._reference)
            points += Case(answers, filter_, k, 1, 3).measure([reference], 1)[0]
        rows = [self._curves(kind, filter_, k, 1, 1, points)]
        if headline:
            rows.append(self._headline(kind, filter_, k, runs, points))
        if k == 1000 and not effort.headlines_only:
            systems = dict.fromkeys(run.system for run in runs)
            chosen = [runs[points.index(best_of(points, system))] for system in systems]
            for threads, batch in ((1, 16), (2, 1), (2, 16)):
                self._use(threads)
                points, _ = Case(answers, filter_, k, batch, effort.queries).measure(chosen, 3)
                rows.append(self._curves(kind, filter_, k, batch, threads, points))
            self._use(1)
        return rows

    def _runs(self, filter_: Filter, k: int) -> Iterable[Run]:
        n, lists = self._effort.items, self._faiss.lists
        for probes in (max(1, lists // part) for part in _parts(filter_)):
            for again in (0, 1.2):
                yield Run(SQ8, peers.Setting("SQ8", probes, again), self._faiss)
                yield Run(UNIFORM, peers.Setting("SQ8 uniform", probes, again), self._faiss)
            for rescored in RESCORED:
                own = index.Setting(probes, index.EVERY, rescored)
                yield Run(IN_LISTS, own, self._in_lists)
            for code, refined in FAST_SCANS[k]:
                yield Run(FAST_SCAN, peers.Setting(code, probes, refined), self._faiss)
        budgets = {self._budget, *(1 << bits for bits in range(11, 19))}
        fitting = [b for b in sorted(budgets) if 2 * k <= b < n * filter_.rate / 2]
        for budget in [*fitting, *([n] if filter_.fields else [])]:
            for rescored in RESCORED:
                yield Run(DEFAULT, index.Setting(n, budget, rescored), self._default)
        yield Run(ROARING, None, self._roaring)

    def _headline(
        self, kind: str, filter_: Filter, k: int, runs: Sequence[Run], points: Sequence[Point]
    ) -> Row:
        """The pairs that the last line compares, each measured again with nothing else between the two."""
        config = {"part": "headline", "queries": kind, "filter": filter_.name, "k": k}
        figures: dict[str, float] = {}
        eighth = self._faiss.lists // 8
        if filter_ == THOUSANDTH:
            pairs = {
                "best": best_at_target(points, lambda system: True),
                "best_faiss": best_at_target(points, lambda system: system in FAISS),
            }
        else:
            pairs = {"same_lists": same_lists(runs, points, eighth)}
            figures |= at_target(points, (SQ8, UNIFORM))
            if filter_ == ALL:
                pairs["fast_scan"] = fast_scan(runs, points, eighth)
        case = Case(self._answers[kind], filter_, k, 1, self._effort.headline_queries)
        for what, pair in pairs.items():
            measured, by_repeat = case.measure([runs[i] for i in pair], self._effort.headline_repeats * 3)
            figures |= figures_of_pair(what, measured, by_repeat)
            peer, own = measured
            config |= {f"{what}_peer": _name(peer), f"{what}_ours": _name(own)}
        return self._row(f"headline, {kind}, {filter_.name}, top {k}", config, figures)

    def _curves(
        self, kind: str, filter_: Filter, k: int, batch: int, threads: int, points: Sequence[Point]
    ) -> Row:
        config = {
            **{"part": "curve", "queries": kind, "filter": filter_.name, "pass_rate": filter_.rate},
            **{"k": k, "batch": batch, "threads": threads},
        }
        case = f"{kind}, {filter_.name}, top {k}, batch {batch}, threads {threads}"
        return self._row(case, config, figures_of(points))

    def _row(self, case: str, config: Mapping[str, Any], figures: Mapping[str, float]) -> Row:
        row = Row(NAME, case, {**self._config, **config}, figures)
        peers = {"faiss": faiss.__version__, "pyroaring": pyroaring.__version__}
        return replace(row, versions={**row.versions, **peers})

    def _use(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self._threads.use(threads)


def _name(point: Point) -> str:
    return f"{point.system}, {point.setting}" if point.setting else point.system


def _parts(filter_: Filter) -> tuple[int, ...]:
    """Divisors of the number of lists to open: filters that pass fewer items need more lists."""
    if filter_.relation == "near":
        return (32, 16, 8, 4, 2)
    if filter_.relation == "far":
        return (8, 4, 2, 1)
    return {1.0: (32, 16, 8, 4, 2), 0.1: (16, 8, 4, 2, 1), 0.01: (8, 4, 2, 1)}.get(filter_.rate, (8, 2, 1))


if __name__ == "__main__":
    main()
