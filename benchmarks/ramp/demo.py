"""From the mesh to the model by evidence, with callers who notice nothing.

Publishes a generated catalog, starts a mesh with two retrieval replicas whose k-means have other seeds and
`meshfold serve --mesh` in front of it, and has callers ask at a rate until the end. First the model shadows, and a
report is written; then `meshfold migrate` goes from mirror to serve, step by step, as the gate says. Its last line is a
JSON object after BENCH.

    python -m benchmarks.ramp.demo --work build/ramp-demo
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.arguments import arguments
from benchmarks.load.server import free_addresses
from benchmarks.mesh.traffic import traffic
from benchmarks.operators import mode_of
from benchmarks.processes import MESHFOLD, command, serving
from benchmarks.report import bench
from benchmarks.shadow.demo import published
from benchmarks.shadow.two_replicas import PATIENCE_S, two_replicas_up
from meshfold.commands import console
from meshfold.compat.shadow.pairs import OK, Pair, PairSide
from meshfold.compat.shadow.replay import Replay, ReplaySettings

SURFACE = "generated"
RESULTS = 100
# Requests that are drawn; callers ask them again and again, under other ids.
DRAWN = 10_000
PLAN = """\
# Of a demonstration: hold times of seconds, and bounds of latency for two busy cores.
servers = ["{operators}"]
surfaces = ["{surface}"]
pairs = ["pairs"]
store = "store"
hold_s = {hold_s:g}
poll_s = 1
state = "ramp.json"
[gate]
min_users = 200
errors_pass = 0.01
p99_ratio = 2.0
p99_stop_ms = 100.0
p99_pass_ms = 200.0
"""


class Callers:
    """Ask at a rate until the block ends, whether earlier requests have answers or not. statuses: of the answers."""

    def __init__(self, address: str, data: Path, rate: float) -> None:
        self.statuses: Counter[str] = Counter()
        self._drawn = [(request.surface, request) for request in traffic(data, DRAWN, RESULTS)]
        self._replay = Replay({PairSide.MESH: address}, ReplaySettings(rate, timeout_s=PATIENCE_S))
        self._thread = threading.Thread(target=self._ask, name="callers")

    @property
    def failed(self) -> int:
        return self.statuses.total() - self.statuses[OK]

    def __enter__(self) -> Callers:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._replay.stop()
        self._thread.join()

    def _ask(self) -> None:
        for pair in self._replay.pairs(self._requests()):
            assert pair.mesh is not None
            self.statuses[pair.mesh.status] += 1

    def _requests(self) -> Iterator[Pair]:
        for number in count():
            surface, request = self._drawn[number % len(self._drawn)]
            request.request_id = f"request-{number}"
            yield Pair(request.request_id, surface, request=request.SerializeToString())


def main() -> None:
    parser = arguments(__doc__, work="build/ramp-demo", items=20_000)
    parser.add_argument("--users", type=int, default=3000)
    parser.add_argument("--rate", type=float, default=25.0, help="requests a second")
    parser.add_argument("--mirror", type=float, default=60.0, metavar="SECONDS", help="before the report")
    parser.add_argument("--hold", type=float, default=20.0, metavar="SECONDS", help="of each step at least")
    args = parser.parse_args()
    work: Path = args.work
    data, store, _ = published(args)
    for name in ("pairs", "compared"):
        shutil.rmtree(work / name, ignore_errors=True)
    for path in work.glob("ramp*"):
        path.unlink()
    key = work / "hash.key"
    if not key.exists():
        command("shadow", "key", "--out", key)
    with (
        two_replicas_up(store, work) as mesh,
        served(store, mesh, work, key) as (address, operators, metrics),
        Callers(address, data, args.rate) as callers,
    ):
        print(f"callers ask {address} {args.rate:g} times a second until the end; metrics are on {metrics}")
        command("mode", SURFACE, "mirror", "--address", operators, "--why", "first comparison")
        time.sleep(args.mirror)
        report(work)
        plan = work / "plan.toml"
        plan.write_text(PLAN.format(operators=operators, surface=SURFACE, hold_s=args.hold))
        status = migrated(plan)
        mode = mode_of(operators, SURFACE)
    told = {
        "name": "demo",
        "requests": callers.statuses.total(),
        "failed": callers.failed,
        "mode": mode,
        **figures(work),
        "rows": str(work / "pairs"),
    }
    for line in where_to_look(work):
        console.print(line)
    bench(told)
    sys.exit(0 if status == 0 and mode == "serve" and not callers.failed else 1)


@contextmanager
def served(store: Path, mesh: str, work: Path, key: Path) -> Iterator[tuple[str, str, str]]:
    """The addresses of a server in front of the mesh: for callers, for operators, for metrics."""
    state = work / "modes.json"
    state.unlink(missing_ok=True)
    comparison = {
        "on": "true",
        "folder": work / "pairs",
        "canary-share": 1.0,
        "noise-share": 1.0,
        "noise-budget": 1_000_000,
        "file-age-s": 2,
        "keep-requests": "true",
        "key-file": key,
    }
    flags = [f"--comparison-{name}={value}" for name, value in comparison.items()]
    flags += [f"--queue-s={PATIENCE_S}", f"--migration-shadow-timeout-s={PATIENCE_S}"]
    flags += ["--store", str(store), "--mesh", mesh, "--migration-state", str(state)]
    (metrics,) = free_addresses(1)
    flags += [f"--metrics-address={metrics}"]
    with serving(flags, work / "serve.log") as (callers, operators):
        yield callers, operators, metrics


def report(work: Path) -> None:
    """Prints the report of the pairs so far."""
    print(
        command("shadow", "report", work / "pairs", "--store", work / "store", "--html", work / "report.html")
    )


def migrated(plan: Path) -> int:
    """Runs `meshfold migrate`; returns its exit status."""
    sys.stdout.flush()
    return subprocess.run([*MESHFOLD, "migrate", plan], check=False).returncode


def figures(work: Path) -> dict[str, Any]:
    """Figures of all pairs of all steps."""
    told = json.loads(command("shadow", "report", work / "pairs", "--json"))
    (surface,) = told["comparison"]["surfaces"]
    overlap = next(figure for figure in surface["figures"] if figure["name"] == "overlap@100")
    return {
        "overlap100": round(overlap["difference"]["value"], 4),
        "noise100": round(overlap["noise"]["value"], 4),
    }


def where_to_look(work: Path) -> list[str]:
    return [
        "",
        f"the report of the mirror      {work / 'report.html'}",
        f"decisions and their figures   {work / 'ramp-log.jsonl'} (meshfold migrate status {work / 'plan.toml'})",
        f"every pair of answers         {work / 'pairs'}",
        f"modes and who changed them    {work / 'modes.json.history'}",
        "what the states mean          docs/ramp.md",
    ]


if __name__ == "__main__":
    main()
