"""What the proxy adds: the mesh asked through it, in mode mesh, and the mesh asked directly, in one run, alternating.

Open loop at half of the mesh's highest rate: requests start at random moments, whether earlier ones were answered or
not, and their time counts from when they should have started.

    python -m benchmarks.mesh.proxy --data .meshfold/generated --keep
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.mesh.demo import published
from benchmarks.mesh.traffic import traffic
from benchmarks.processes import mesh_up, serving
from benchmarks.report import bench
from benchmarks.rows import Row, write_rows
from meshfold.commands import console
from meshfold.tools.bench_calls import RETRIEVE

CALLERS = 16
TIMEOUT_S = 10.0
SIDES = ("direct", "proxy")
PID = os.getpid()


@dataclass
class Side:
    """A way to the mesh. times_ms: of its calls. windows_ms: p50 of each window."""

    call: Any
    times_ms: list[float] = field(default_factory=list)
    windows_ms: list[float] = field(default_factory=list)
    failed: int = 0
    mesh_cpu_s: float = 0.0
    proxy_cpu_s: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="what the mesh serves")
    parser.add_argument("--work", type=Path, default=Path("build/proxy"), help="where the snapshot is kept")
    parser.add_argument("--results", type=int, default=1000, help="results that a request asks for")
    parser.add_argument("--pairs", type=int, default=20, help="windows of each side")
    parser.add_argument("--window", type=float, default=5.0, metavar="SECONDS")
    parser.add_argument("--keep", action="store_true", help="append rows to benchmarks/results")
    args = parser.parse_args()
    surface, store = published(args.data, args.work)
    requests = [r.SerializeToString() for r in traffic(args.data, 500, args.results)]
    with ExitStack() as stack:
        up = stack.enter_context(mesh_up(store, args.work / "mesh.log", "--surface", surface))
        mesh = up["orchestrator"]["address"]
        # Nothing is published where the proxy looks: it is nothing but a proxy.
        flags = ["--store", args.work / "nothing", "--mesh", mesh]
        state = args.work / "modes.json"
        state.unlink(missing_ok=True)
        flags += ["--migration-state", state]
        proxy, _ = stack.enter_context(serving(flags, args.work / "serve.log"))
        sides = {}
        for name, address in zip(SIDES, (mesh, proxy), strict=True):
            channel = grpc.insecure_channel(address, [("grpc.max_receive_message_length", -1)])
            stack.callback(channel.close)
            sides[name] = Side(channel.unary_unary(RETRIEVE))
        highest_hz = highest_rate(sides["direct"].call, requests, 8.0)
        rate_hz = highest_hz / 2
        for side in sides.values():
            window(Side(side.call), requests, rate_hz, 3.0)
        alternate(sides, requests, rate_hz, args.pairs, args.window)
    show(sides, highest_hz, args)


def highest_rate(call: Any, requests: Sequence[bytes], seconds: float) -> float:
    """Answers a second while several callers ask one after the other, the first second apart."""
    answered = [0] * CALLERS
    begin_s = time.perf_counter() + 1.0

    def ask(number: int) -> None:
        at = number
        while (now_s := time.perf_counter()) < begin_s + seconds:
            call(requests[at % len(requests)], timeout=TIMEOUT_S)
            answered[number] += now_s >= begin_s
            at += CALLERS

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(answered) / seconds


def alternate(
    sides: dict[str, Side], requests: Sequence[bytes], rate_hz: float, pairs: int, seconds: float
) -> None:
    """A window of each side in turn; which comes first changes from pair to pair."""
    with console.progress() as progress:
        for pair in range(pairs):
            for name in SIDES if pair % 2 else SIDES[::-1]:
                window(sides[name], requests, rate_hz, seconds, seed=pair)
            progress("direct and through the proxy", pair + 1, pairs)


def window(side: Side, requests: Sequence[bytes], rate_hz: float, seconds: float, seed: int = 0) -> None:
    """Open loop; waits for the last answer."""
    rng = random.Random(seed)
    times_ms: list[float] = []
    pending: list[Any] = []
    mesh_s, proxy_s = cpu_seconds()
    due_s = time.perf_counter()
    end_s = due_s + seconds
    number = rng.randrange(len(requests))
    while (due_s := due_s + rng.expovariate(rate_hz)) < end_s:
        time.sleep(max(0.0, due_s - time.perf_counter()))
        future = side.call.future(requests[number % len(requests)], timeout=TIMEOUT_S)
        future.add_done_callback(
            lambda done, due_s=due_s: times_ms.append(1000 * (time.perf_counter() - due_s))
        )
        pending.append(future)
        number += 1
    for future in pending:
        side.failed += future.exception() is not None
    while len(times_ms) < len(pending):
        time.sleep(0.001)
    mesh_after_s, proxy_after_s = cpu_seconds()
    side.mesh_cpu_s += mesh_after_s - mesh_s
    side.proxy_cpu_s += proxy_after_s - proxy_s
    side.times_ms += times_ms
    side.windows_ms.append(statistics.median(times_ms))


def cpu_seconds() -> tuple[float, float]:
    """Of the mesh's processes and of the proxy's so far. Source: proc(5)."""
    spent = {"mesh": 0.0, "serve": 0.0}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            numbers = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # ended meanwhile
            continue
        for command in spent:
            if command.encode() in words[1:6] and own(folder.name):
                spent[command] += (int(numbers[11]) + int(numbers[12])) / 100
    return spent["mesh"], spent["serve"]


def own(process: str) -> bool:
    """Whether a process descends from this one."""
    while process not in ("0", "1"):
        if process == str(PID):
            return True
        try:
            process = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            return False
    return False


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
    if args.keep:
        write_rows(rows)
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
