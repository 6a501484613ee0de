"""All of meshfold on one GPU: its kernels' tests, then named rows at 1, 80 and 10 million items, within nine minutes.

Needs a CUDA device and torch, triton, numpy, safetensors and pytest; neither network nor anything else. What no longer
fits into the time or the device's memory is skipped, and said to be.

    make gpu
    python -m benchmarks.gpu.run --device cpu --items 6000 --seconds 0 --batches 1     # a dry run of the same code
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

try:
    import numpy as np
    import torch

    from benchmarks.gpu.cases import CASES, SIZES, SMALL, Case
    from benchmarks.gpu.kernel_tests import FOLDER, run_tests
    from benchmarks.gpu.measure import (
        copy_bytes_per_s,
        differences,
        judge,
        latencies_ms,
        needed,
        on_host,
        prepare,
    )
    from benchmarks.gpu.peer import BruteForce
    from benchmarks.gpu.table import table_of
    from benchmarks.gpu.world import SCHEMA, World
    from benchmarks.gpu.world import on_host as world_on_host
    from benchmarks.report import bench
    from benchmarks.rows import Row, write_rows
    from meshfold.commands import console
    from meshfold.kernels.native import library
    from meshfold.model.exports import export_over_arch
    from meshfold.model.program import Program, load_program
    from meshfold.model.progress import Progress
    from meshfold.model.train.config import OverArchKind
    from meshfold.model.train.over_arch import new_over_arch
except ImportError as missing:
    sys.exit(f"make gpu needs Python packages that are not there ({missing}); see docs/performance.md")

DIMENSION = 128
HIDDEN = (256, 128, 64)
# Share of the time for the tests.
_TESTS_SHARE = 0.55
# Guesses of the time to make a catalog and to measure a row; they only decide whether to begin.
_MAKING_S_PER_ITEM = 1.2e-6
_ROW_S = 12.0
_COPY_BYTES = 1 << 30
# Beside the finished catalog, codes are there twice while they are put in order.
_BYTES_PER_ITEM = 3 * DIMENSION + 90
_HOST_QUERIES = 8


class Clock:
    """When all has to end, and what was skipped for it."""

    def __init__(self, minutes: float) -> None:
        self._end_s = time.monotonic() + 60 * minutes
        self.skipped: list[str] = []

    @property
    def left_s(self) -> float:
        return self._end_s - time.monotonic()

    def fits(self, what: str, seconds: float) -> bool:
        if self.left_s >= seconds:
            return True
        self.skip(what, f"needs some {seconds:.0f} s, {max(self.left_s, 0):.0f} s are left")
        return False

    def skip(self, what: str, why: str) -> None:
        self.skipped.append(f"{what}: {why}")
        print(f"skipped {what}: {why}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    if args.device != "cpu" and not torch.cuda.is_available():
        print(
            f"make gpu needs a CUDA device and torch {torch.__version__} sees none here; run it where there is one",
            file=sys.stderr,
        )
        return 1
    clock = Clock(args.minutes)
    device = torch.device(args.device)
    on_gpu = device.type == "cuda"
    tested = run_tests(args.tests, clock.left_s * _TESTS_SHARE, args.processes, interpreted=not on_gpu)
    console.print(
        f"tests: {tested.passed} passed, {tested.failed} failed, {tested.skipped} skipped in {tested.seconds} s"
    )
    for name in tested.unfinished:
        clock.skip(f"tests of {name}", "the clock ended them")
    for text in tested.failures:
        print(text, file=sys.stderr)
    if tested.failures or not tested.passed:
        print("no row is measured where tests fail", file=sys.stderr)
        return 1
    rows: list[Row] = []
    with torch.inference_mode(), console.progress() as progress:
        copy = copy_bytes_per_s(device, _COPY_BYTES if on_gpu else 1 << 26)
        over_arch = _over_arch(device)
        for size, items in enumerate(SIZES if args.items is None else [args.items]):
            cases = [c for c in CASES if args.items is not None or c.size == size]
            rows += _rows_of(cases, items, device, over_arch, copy, args, clock, progress)
    if not rows:
        print("no row fitted into the time", file=sys.stderr)
        return 1
    rows = [replace(row, device=_device(device), versions={**row.versions, **_versions()}) for row in rows]
    console.print(table_of(rows))
    args.json.parent.mkdir(parents=True, exist_ok=True)
    told = {"tests": asdict(tested), "skipped": clock.skipped, "rows": [asdict(row) for row in rows]}
    args.json.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    if args.keep:
        console.print(
            f"rows written to {write_rows(rows)}; python -m benchmarks.tables writes them to the docs"
        )
    wrong = [name for row in rows for name in _wrong(row)]
    for text in wrong:
        print(text, file=sys.stderr)
    line = {
        **{"name": "gpu", "rows": len(rows), "skipped": len(clock.skipped), "tests": tested.passed},
        **{"wrong": len(wrong), "copy_gb_s": round(copy / 1e9, 1)},
    }
    bench(line)
    return int(bool(wrong))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for a dry run of the same code")
    parser.add_argument("--items", type=int, metavar="N", help="all rows on one catalog of so many items")
    parser.add_argument("--minutes", type=float, default=8.7, help="after which it ends (default: 8.7)")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="that a row repeats its batches (default: 4)"
    )
    parser.add_argument("--batches", type=int, default=20, help="of a row at least (default: 20)")
    parser.add_argument("--tests", nargs="+", default=[FOLDER], metavar="PATH", help=f"default: {FOLDER}")
    parser.add_argument("--processes", type=int, default=max(1, min(8, (os.cpu_count() or 1) - 1)))
    parser.add_argument("--json", type=Path, default=Path("build/gpu/gpu.json"), metavar="FILE")
    parser.add_argument("--keep", action="store_true", help="append the rows to benchmarks/results")
    return parser


def _rows_of(
    cases: Sequence[Case],
    items: int,
    device: torch.device,
    over_arch: Program,
    copy: float,
    args: argparse.Namespace,
    clock: Clock,
    progress: Progress,
) -> list[Row]:
    named = f"{items:,} items"
    if not clock.fits(named, items * _MAKING_S_PER_ITEM + _ROW_S):
        return []
    free = _free_bytes(device)
    if free < items * _BYTES_PER_ITEM:
        clock.skip(
            named, f"need {items * _BYTES_PER_ITEM / 1e9:.0f} GB of the device, {free / 1e9:.0f} are free"
        )
        return []
    start_s = time.monotonic()
    world = World.make(items, DIMENSION, device, progress)
    made_s = time.monotonic() - start_s
    rows = []
    for case in cases:
        name = case.name(items)
        if clock.fits(name, _ROW_S):
            progress(name, 0, 1)
            rows.append(_row(world, case, over_arch, copy, made_s, args, clock))
            progress(name, 1, 1)
    if rows and cases[0].size == SMALL and clock.fits("comparison with the CPU", 20.0):
        rows[0] = replace(rows[0], figures={**rows[0].figures, **_compared(world, cases, over_arch)})
    del world
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return rows


def _row(
    world: World,
    case: Case,
    over_arch: Program,
    copy: float,
    made_s: float,
    args: argparse.Namespace,
    clock: Clock,
) -> Row:
    prepared, name = prepare(world, case, over_arch), case.name(world.items)
    batch = prepared.batches[0]
    gc.collect()
    peak = _Peak(world.device)
    whole = latencies_ms(prepared.model, prepared, args.seconds, args.batches)
    peak_bytes = peak.bytes()
    searches = latencies_ms(prepared.search, prepared, args.seconds / 2, args.batches)
    wanted, judged = needed(prepared, batch), judge(prepared)
    found = prepared.search(batch)
    p50_ms, p99_ms = np.quantile(whole, [0.5, 0.99])
    search_ms = statistics.median(searches)
    search_rate = wanted.search / search_ms * 1e3
    figures = {
        "p50_ms": float(p50_ms),
        "p99_ms": float(p99_ms),
        "queries_per_s": case.batch * 1e3 / statistics.fmean(whole),
        "search_p50_ms": search_ms,
        "search_p99_ms": float(np.quantile(searches, 0.99)),
        "needed_bytes": wanted.whole,
        "achieved_bytes_per_s": wanted.whole / float(p50_ms) * 1e3,
        "search_needed_bytes": wanted.search,
        "search_bytes_per_s": search_rate,
        "copy_bytes_per_s": copy,
        "search_share_of_copy": search_rate / copy,
        "peak_bytes": peak_bytes,
        "recall": judged.recall,
        "ineligible": judged.ineligible,
        "clusters_opened": float(found.opened.double().median()),
        "items_scored": float(found.scored.double().median()),
        "distinct_items_scored": wanted.items,
        "batches": len(whole),
        "made_s": made_s,
    }
    spare = _free_bytes(world.device) - BruteForce.bytes_of(world, case.batch)
    if spare < 0:
        clock.skip(f"brute force beside {name}", f"{-spare / 1e9:.1f} GB more are needed")
    elif clock.fits(f"brute force beside {name}", _ROW_S / 2):
        figures["brute_force_p50_ms"] = BruteForce(world).p50_ms(prepared, min(3, args.batches))
    config = asdict(case) | {
        **{"items": world.items, "dimension": world.dimension, "clusters": world.index.centroids.shape[0]},
        **{"budget": prepared.budget, "recall_depth": judged.depth, "signature_rows": world.layout.rows},
    }
    return Row("gpu", name, config, figures)


def _compared(world: World, cases: Sequence[Case], over_arch: Program) -> dict[str, float]:
    """How many answers differ from the CPU's."""
    host = world_on_host(world)
    on_cpu = load_program(_program(), "over_arch")
    different: list[str] = []
    plain = [case for case in cases if not case.over_arch]
    for case in {c.filtered: c for c in plain}.values():
        here = prepare(world, case, over_arch)
        different += differences(here, on_host(here, host, on_cpu), min(_HOST_QUERIES, case.batch))
    for text in different:
        print(f"differs from the CPU ({library.level()}): {text}", file=sys.stderr)
    return {"different_from_cpu": len(different)}


def _wrong(row: Row) -> list[str]:
    figures = row.figures
    told = []
    if figures["ineligible"]:
        told.append(f"{row.case}: {figures['ineligible']:.0f} candidates do not pass their filter")
    if figures.get("different_from_cpu"):
        told.append(f"{row.case}: answers differ from the CPU's")
    return told


def _program() -> bytes:
    made = new_over_arch(OverArchKind.MLP, 1, DIMENSION, HIDDEN, 0).eval()
    return export_over_arch(made, SCHEMA, DIMENSION)


def _over_arch(device: torch.device) -> Program:
    """A program as a snapshot holds it. Weights are those that training begins with: time does not depend on them."""
    return load_program(_program(), "over_arch").to(device)


class _Peak:
    """Memory of the device from here on, as torch allocates it; 0 on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)

    def bytes(self) -> float:
        return torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else 0


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _device(device: torch.device) -> str:
    if device.type != "cuda":
        return Row("", "", {}, {}).device
    held = torch.cuda.get_device_properties(device)
    return f"{held.name}, {held.total_memory / 2**30:.0f} GiB"


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"triton": version("triton"), "numpy": np.__version__} | (
        {"cuda": torch.version.cuda} if torch.version.cuda else {}
    )


if __name__ == "__main__":
    sys.exit(main())
