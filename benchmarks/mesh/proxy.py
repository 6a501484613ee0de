"""Cost of the proxy: calls of the mesh through it, in mode mesh, and direct calls, alternating in one run.

Open loop at half of the mesh's highest rate: requests start at random moments, with or without answers to earlier ones,
and their time counts from the moment at which they were due.

    python -m benchmarks.mesh.proxy --data .meshfold/generated --keep
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.arguments import arguments
from benchmarks.mesh.demo import published
from benchmarks.mesh.traffic import traffic
from benchmarks.process_tree import ProcessTree, command_line, cpu_s
from benchmarks.processes import mesh_up, serving
from benchmarks.report import bench, written
from benchmarks.rows import Row
from meshfold.commands import console
from meshfold.tools.bench_calls import RETRIEVE, Calls, Phase, Stream, quantile, send, write_messages

CALLERS = 16
TIMEOUT_S = 10.0
SIDES = ("direct", "proxy")


@dataclass
class Side:
    """A way to the mesh. times_ms: of its calls. windows_ms: p50 of each window."""

    address: str
    messages: Path
    times_ms: list[float] = field(default_factory=list)
    windows_ms: list[float] = field(default_factory=list)
    failed: int = 0
    mesh_cpu_s: float = 0.0
    proxy_cpu_s: float = 0.0

    def calls(self, phase: Phase, seed: int = 0, callers: int = 0) -> Calls:
        """The calls of one phase. callers: of a closed loop; 0 for an open loop."""
        stream = Stream("caller", self.address, RETRIEVE, self.messages, [phase], callers=callers)
        return send([stream], seed, drain_s=TIMEOUT_S)[0]["caller"]


def main() -> None:
    parser = arguments(__doc__, work="build/proxy", keep=True)
    parser.add_argument("--data", type=Path, required=True, help="what the mesh serves")
    parser.add_argument("--results", type=int, default=1000, help="results that a request asks for")
    parser.add_argument("--pairs", type=int, default=20, help="windows of each side")
    parser.add_argument("--window", type=float, default=5.0, metavar="SECONDS")
    args = parser.parse_args()
    surface, store = published(args.data, args.work)
    requests = [r.SerializeToString() for r in traffic(args.data, 500, args.results)]
    messages = write_messages(args.work / "requests.messages", requests)
    with ExitStack() as stack:
        up = stack.enter_context(mesh_up(store, args.work / "mesh.log", "--surface", surface))
        mesh = up["orchestrator"]["address"]
        # An empty store, for a proxy without a model.
        flags = ["--store", args.work / "nothing", "--mesh", mesh]
        state = args.work / "modes.json"
        state.unlink(missing_ok=True)
        flags += ["--migration-state", state]
        proxy, _ = stack.enter_context(serving(flags, args.work / "serve.log"))
        sides = {name: Side(at, messages) for name, at in zip(SIDES, (mesh, proxy), strict=True)}
        sides["direct"].calls(Phase(0.0, 1.0, TIMEOUT_S), callers=CALLERS)
        highest_hz = float(sides["direct"].calls(Phase(0.0, 8.0, TIMEOUT_S), callers=CALLERS).ok.sum()) / 8
        rate_hz = highest_hz / 2
        for side in sides.values():
            side.calls(Phase(rate_hz, 3.0, TIMEOUT_S))
        alternate(sides, rate_hz, args.pairs, args.window)
    show(sides, highest_hz, args)


def alternate(sides: dict[str, Side], rate_hz: float, pairs: int, seconds: float) -> None:
    """A window of each side in turn; the order changes from pair to pair."""
    with console.progress() as progress:
        for pair in range(pairs):
            for name in SIDES if pair % 2 else SIDES[::-1]:
                window(sides[name], rate_hz, seconds, seed=pair)
            progress("direct and through the proxy", pair + 1, pairs)


def window(side: Side, rate_hz: float, seconds: float, seed: int = 0) -> None:
    """Runs an open loop, to its last answer."""
    before = cpu_seconds()
    calls = side.calls(Phase(rate_hz, seconds, TIMEOUT_S), seed)
    mesh_s, proxy_s = (after - spent for after, spent in zip(cpu_seconds(), before, strict=True))
    side.failed += int((~calls.ok).sum())
    side.mesh_cpu_s += mesh_s
    side.proxy_cpu_s += proxy_s
    side.times_ms += calls.latency_ms.tolist()
    side.windows_ms.append(quantile(calls.latency_ms, 0.5))


def cpu_seconds() -> tuple[float, float]:
    """(the mesh's processes, the proxy's) so far."""
    spent = {b"mesh": 0.0, b"serve": 0.0}
    for pid in ProcessTree(os.getpid()).pids():
        for command in spent.keys() & set(command_line(pid)[1:6]):
            spent[command] += cpu_s(pid)
    return spent[b"mesh"], spent[b"serve"]


def show(sides: dict[str, Side], highest_hz: float, args: argparse.Namespace) -> None:
    rows = []
    for name, side in sides.items():
        p50, p95, p99 = np.quantile(side.times_ms, (0.5, 0.95, 0.99)).tolist()
        calls = len(side.times_ms)
        rows.append(
            Row(
                name="proxy",
                case=name,
                config={
                    "data": args.data.name,
                    "results": args.results,
                    "rate_hz": round(highest_hz / 2, 2),
                    "highest_hz": round(highest_hz, 2),
                    "windows": len(side.windows_ms),
                    "window_s": args.window,
                },
                figures={
                    "calls": calls,
                    "failed": side.failed,
                    "p50_ms": p50,
                    "p95_ms": p95,
                    "p99_ms": p99,
                    "mesh_cpu_ms": 1000 * side.mesh_cpu_s / calls,
                    "proxy_cpu_ms": 1000 * side.proxy_cpu_s / calls,
                },
            )
        )
    columns = ("p50_ms", "p95_ms", "p99_ms", "mesh_cpu_ms", "proxy_cpu_ms", "calls", "failed")
    console.table(
        ["", *columns],
        [[row.case, *(round(row.figures[column], 2) for column in columns)] for row in rows],
        f"open loop at {highest_hz / 2:.0f} of {highest_hz:.0f} requests a second",
    )
    written(rows, args.keep)
    direct, proxy = sides["direct"], sides["proxy"]
    by_pair = [b - a for a, b in zip(direct.windows_ms, proxy.windows_ms, strict=True)]
    added_ms = statistics.median(proxy.times_ms) - statistics.median(direct.times_ms)
    told = {
        "name": "proxy",
        "p50_added_ms": round(added_ms, 3),
        "p50_added_by_pair_ms": round(statistics.median(by_pair), 3),
        "direct_p50_ms": round(statistics.median(direct.times_ms), 3),
        "cpu_s_a_call": round(proxy.proxy_cpu_s / len(proxy.times_ms), 6),
        "rate_hz": round(highest_hz / 2, 1),
        "failed": direct.failed + proxy.failed,
    }
    bench(told)
    sys.exit(1 if told["failed"] else 0)


if __name__ == "__main__":
    main()
