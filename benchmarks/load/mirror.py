"""Cost of shadows for callers, and of comparing their answers.

    python -m benchmarks.load.mirror --keep

A server in front of a stand-in for a mesh that answers at once: the p99 of calls that the mesh answers, with the model
shadowing and without, in turn. Then two servers, one of which compares (compared.py): with a shadow that is healthy,
dead, hanging, slow or crashing, at half load, and over many requests. Open loop; which block comes first changes from
pair to pair. The collector's longest pause is the upper bound of the highest bucket of `meshfold_gc_pause_seconds` that
counted a pause since the server was warm.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arguments import arguments
from benchmarks.load.compared import Plan, half_load, memory, states
from benchmarks.load.server import Server, StandIn
from benchmarks.load.world import ATTACKED, World
from benchmarks.operators import set_mode
from benchmarks.report import bench, keep, show
from benchmarks.rows import Row
from meshfold.commands import console
from meshfold.tools.bench_calls import RETRIEVE, Calls, Phase, Stream, quantile, send

MODES = ("mesh", "mirror")
DEADLINE_S = 5.0
PAUSES = "meshfold_gc_pause_seconds"
MEMORY = (
    "requests",
    *(f"{name}_{figure}" for name in ("server", "worker", "plain") for figure in ("mb", "grown_mb")),
)
SHOWN = ("calls", "failed", "p50_ms", "p95_ms", "p99_ms", "max_ms", "server_cores")


def main() -> None:
    parser = arguments(__doc__, work="build/load", keep=True, items=20_000)
    parser.add_argument("--rate", type=float, default=30.0, help="calls a second; default: %(default)s")
    parser.add_argument("--blocks", type=int, default=10, help="of each mode; default: %(default)s")
    parser.add_argument("--block", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument(
        "--state-block", type=float, default=4.0, metavar="SECONDS", help="of a state of the shadow"
    )
    parser.add_argument("--requests", type=int, default=20_000, help="of which memory is measured")
    args = parser.parse_args()
    work = args.work / "mirror"
    work.mkdir(parents=True, exist_ok=True)
    world = World(args.work, items=args.items)
    world.make()
    state = work / "modes.json"
    state.unlink(missing_ok=True)
    with StandIn(work / "mesh.log") as mesh:
        mesh.answer(0.0, world.results)
        flags = ["--mesh", mesh.address, "--migration-state", state]
        with Server(world.store, work / "serve.log", *flags) as server:
            mirror = Mirror(server, world, args.rate, args.block)
            mirror.block("mirror")
            before = pauses(server)
            blocks: dict[str, list[Block]] = {mode: [] for mode in MODES}
            with console.progress() as progress:
                for number in range(args.blocks):
                    for mode in MODES if number % 2 else MODES[::-1]:
                        blocks[mode].append(mirror.block(mode))
                    progress("mirror", number + 1, args.blocks)
            pause_s = longest(before, pauses(server))
            rows = [_row(mode, blocks[mode], args, pause_s, shadowed(server)) for mode in MODES]
        show(rows, SHOWN, f"{args.rate:g} calls a second that a mesh answers")
        more, parts = _compared(world, mesh, work, args)
    pairs = [b.p99_ms / a.p99_ms for a, b in zip(*(blocks[mode] for mode in MODES), strict=True)]
    console.print(f"ratio of the pairs' p99, median: {np.median(pairs):.2f}")
    console.print(f"rows in {keep([*rows, *more], args.keep, work)}")
    for part in parts.values():
        bench(part)
    without, with_shadow = (row.figures["p99_ms"] for row in rows)
    bench(
        {
            "name": "mirror",
            "p99_ratio": round(with_shadow / without, 3),
            "longest_gc_pause_ms": None if pause_s is None else round(1000 * pause_s, 1),
            "blocks": args.blocks,
            "compared_ratio": parts["states"]["worst_on_off"],
            "half_load_p50_ratio": parts["half_load"]["p50_ratio"],
            "half_load_p99_ratio": parts["half_load"]["p99_ratio"],
            "grown_mb": parts["memory"]["server_grown_mb"],
            "failed": sum(part["failed"] for part in parts.values()),
        }
    )


def _compared(
    world: World, mesh: StandIn, work: Path, args: argparse.Namespace
) -> tuple[list[Row], dict[str, dict[str, Any]]]:
    """Rows and last lines of the parts with comparison."""
    rows: list[Row] = []
    told: dict[str, dict[str, Any]] = {}
    parts: dict[str, Callable[[Path], tuple[list[Row], dict[str, Any]]]] = {
        "states": lambda place: states(world, mesh, place, Plan(args.blocks, args.state_block, args.rate)),
        "half_load": lambda place: half_load(world, mesh, place, Plan(args.blocks, args.block, args.rate)),
        "memory": lambda place: memory(world, mesh, place, args.requests),
    }
    for name, measured in parts.items():
        more, told[name] = measured(work / name)
        show(
            more,
            [column for column in (*SHOWN, *MEMORY) if column in more[0].figures],
            name.replace("_", " "),
        )
        rows += more
    return rows, told


class Block:
    """Calls of one mode in one go."""

    def __init__(self, calls: Calls, server_cores: float) -> None:
        self.calls = calls
        self.server_cores = server_cores
        self.p99_ms = quantile(calls.latency_ms, 0.99)


class Mirror:
    """A server in front of a mesh, and a caller."""

    def __init__(self, server: Server, world: World, rate_hz: float, seconds: float) -> None:
        self._server = server
        self._messages = world.heavy
        self._phase = Phase(rate_hz, seconds, DEADLINE_S)
        self._seed = 0

    def block(self, mode: str) -> Block:
        set_mode(self._server.admin_address, ATTACKED, mode, who="mirror")
        self._seed += 1
        stream = Stream("caller", self._server.address, RETRIEVE, self._messages, [self._phase])
        cpu_s = self._server.resources().cpu_s
        calls, cost = send([stream], self._seed)
        return Block(calls["caller"], (self._server.resources().cpu_s - cpu_s) / cost.wall_s)


def pauses(server: Server) -> Mapping[float, float] | None:
    """Pauses by the upper bound of their bucket, in seconds, over all generations; None without the metric."""
    found: dict[float, float] = defaultdict(float)
    for sample in server.samples(f"{PAUSES}_bucket"):
        found[float(sample.labels["le"])] += sample.value
    if not found:
        return None
    bounds = sorted(found)
    return {b: found[b] - (found[bounds[i - 1]] if i else 0.0) for i, b in enumerate(bounds)}


def longest(before: Mapping[float, float] | None, after: Mapping[float, float] | None) -> float | None:
    """The upper bound of the longest pause in seconds; 0 without a pause, None without the metric."""
    if after is None:
        return None
    counted = [bound for bound, number in after.items() if number > (before or {}).get(bound, 0.0)]
    worst = max(counted, default=0.0)
    # Past the last finite bound only that is known.
    return worst if math.isfinite(worst) else max((b for b in after if math.isfinite(b)), default=0.0)


def shadowed(server: Server) -> dict[str, float]:
    """Shadows by their code."""
    counts: dict[str, float] = defaultdict(float)
    for sample in server.samples("meshfold_shadows_total"):
        counts[sample.labels["code"]] += sample.value
    return dict(counts)


def _row(
    mode: str, blocks: list[Block], args: argparse.Namespace, pause_s: float | None, shadows: dict[str, float]
) -> Row:
    times_ms = np.concatenate([block.calls.latency_ms for block in blocks])
    figures = {
        "calls": len(times_ms),
        "failed": sum(int((~block.calls.ok).sum()) for block in blocks),
        "p50_ms": quantile(times_ms, 0.5),
        "p95_ms": quantile(times_ms, 0.95),
        "p99_ms": quantile(times_ms, 0.99),
        "p999_ms": quantile(times_ms, 0.999),
        "max_ms": quantile(times_ms, 1.0),
        "block_p99_ms": float(np.median([block.p99_ms for block in blocks])),
        "server_cores": float(np.mean([block.server_cores for block in blocks])),
    }
    if pause_s is not None:
        figures["longest_gc_pause_ms"] = 1000 * pause_s
    config = {
        "rate_hz": args.rate,
        "blocks": args.blocks,
        "block_s": args.block,
        "items": args.items,
        "shadows": shadows,
    }
    return Row("mirror", mode, config, figures)


if __name__ == "__main__":
    main()
