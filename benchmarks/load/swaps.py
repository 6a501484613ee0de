"""Swaps, roll-backs, takedowns and restarts while callers ask: does every answer come whole from one version?

    python -m benchmarks.load.swaps --keep

A server with a store of its own, callers at half of what it answers a second. Versions that answer differently are
published one after the other; every tenth time the surface is rolled back, another version is published meanwhile, and
the pin is ended. Items that most answers have are denied on the way, and the server is restarted twice. Every answer is
compared, byte for byte, with what its version answers offline under what was denied then. An answer that was sent more
than a second after a denial must not have the item.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.arguments import arguments
from benchmarks.load.server import Resources, Server
from benchmarks.load.swap_answers import Answers, Denial
from benchmarks.load.swap_callers import COLUMNS
from benchmarks.load.swap_world import SURFACE, VERSIONS, SwapWorld
from benchmarks.report import bench, keep, show
from benchmarks.rows import Row
from benchmarks.waiting import sleep_until, wait_until
from meshfold.commands import console
from meshfold.compat import meshfold_v1
from meshfold.compat.version_client import VersionClient
from meshfold.model.store import Store
from meshfold.tools.bench_calls import write_messages

CALLERS, TRIAL_S, TIMEOUT_S = 8, 5.0, 10.0
POLL_S = 0.2
# Swaps before the memory that the memory at the end is compared with.
WARM_SWAPS = 15
# Between two swaps, at least; and how long a swap may take.
DWELL_S, SWAP_S = 1.0, 60.0
DENIED = 20
SHOWN = (
    "swaps",
    "rollbacks",
    "failed",
    "mixed",
    "strayed",
    "denied_seen",
    "answers",
    "p99_ratio",
    "memory_ratio",
)


def main() -> None:
    parser = arguments(__doc__, work="build/load", keep=True)
    parser.add_argument("--swaps", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--answers", type=int, default=100_000, help="at least, where time allows")
    parser.add_argument(
        "--minutes", type=float, default=10.5, help="at most, of calls (default: %(default)s)"
    )
    args = parser.parse_args()
    work = args.work / "swaps"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    world = SwapWorld(args.work / "swap-world")
    world.make()
    run = Swaps(world, work, args.swaps, args.answers, time.monotonic() + 60 * args.minutes)
    run.run()
    row = run.row()
    show([row], SHOWN, "swaps under load")
    console.print(f"row in {keep([row], args.keep, work)}")
    names = ("swaps", "rollbacks", "failed", "mixed", "strayed", "p99_ratio", "memory_ratio")
    told = {"name": "swaps", **{name: row.figures[name] for name in names}}
    files = f"{row.figures['files_least']:g}..{row.figures['files_most']:g}"
    more = {name: row.figures[name] for name in ("denied_seen", "answers", "rate_hz", "rollback_ms")}
    bench({**told, "files": files, **more})


@dataclass
class Swaps:
    world: SwapWorld
    work: Path
    swaps: int
    answers: int
    end_s: float
    windows: list[tuple[float, float]] = field(default_factory=list)
    pinned: list[tuple[float, float, int]] = field(default_factory=list)
    rolled_s: list[float] = field(default_factory=list)
    held: list[Resources] = field(default_factory=list)
    denials: list[Denial] = field(default_factory=list)
    published: int = 0

    def run(self) -> None:
        self.store = Store(self.work / "store")
        self._publish()
        self.messages = write_messages(self.work / "requests.messages", self.world.messages)
        offline = self.world.offline(())
        frequent = self.world.frequent(offline, 2 * DENIED)
        self.to_deny = [frequent[::2], frequent[1::2]]
        with self._server() as server:
            self.rate_hz = max(10.0, self._highest_hz(server) / 2)
            with self._callers(server, "swaps"):
                self._swap_all(server)
        for number in range(2):
            with self._server() as server, self._callers(server, f"restart-{number}", rate_hz=0.0):
                self._swap(server)
                self._stay(number == 1)
        self.found = Answers(self.world, self.denials)
        self.calls = {name: np.concatenate([np.load(p)[name] for p in self._results()]) for name in COLUMNS}

    def _swap_all(self, server: Server) -> None:
        with console.progress() as progress:
            for number in range(self.swaps):
                if number and number % 10 == 0:
                    self._roll_back(server)
                else:
                    self._swap(server)
                if number in (self.swaps // 4, self.swaps // 2):
                    self._deny(server)
                time.sleep(DWELL_S)
                self.held.append(server.resources())
                progress("swaps", number + 1, self.swaps)
        # Ten in all.
        while len(self.rolled_s) < self.swaps // 10:
            self._roll_back(server)

    def _publish(self) -> str:
        folder = self.world.publish(self.store, self.published % VERSIONS)
        self.published += 1
        return folder.name

    def _swap(self, server: Server) -> None:
        start_s = time.monotonic()
        self._wait_for(server, self._publish())
        self.windows.append((start_s, time.monotonic()))

    def _roll_back(self, server: Server) -> None:
        """Back, publishes another version, which must not be served, and ends the pin, which serves it."""
        with closing(VersionClient(server.admin_address)) as client:
            start_s = time.monotonic()
            client.roll_back(SURFACE, "", "benchmark", "to see it hold")
            back_s = time.monotonic()
            self.rolled_s.append(back_s - start_s)
            # The version before the newest published.
            version = (self.published - 2) % VERSIONS
            name = self._publish()
            time.sleep(5 * POLL_S)
            follow_s = time.monotonic()
            client.follow(SURFACE, "benchmark", "")
        self.pinned.append((back_s, follow_s, version))
        self._wait_for(server, name)
        self.windows.append((start_s, back_s))
        self.windows.append((follow_s, time.monotonic()))

    def _deny(self, server: Server) -> None:
        ids = self.to_deny[len(self.denials)]
        with closing(VersionClient(server.admin_address)) as client:
            start_s = time.monotonic()
            # Once on every surface, once on one.
            client.deny(SURFACE if self.denials else "", ids, "benchmark", "taken down")
        self.denials.append(Denial(start_s, time.monotonic(), tuple(ids)))

    def _wait_for(self, server: Server, folder: str) -> None:
        with closing(VersionClient(server.admin_address)) as client:

            def is_served() -> bool:
                (shown,) = client.show(SURFACE).surfaces
                return any(version.active and version.folder == folder for version in shown.versions)

            trouble = f"{folder} was not served within {SWAP_S:g} s; see {self.work / 'serve.log'}"
            wait_until(is_served, trouble, SWAP_S, every_s=0.1)

    def _stay(self, is_last: bool) -> None:
        """Until there are enough answers, in the last of the runs, or for a while. Callers ask about twice as
        often as before."""
        end_s = time.monotonic() + 10.0
        if is_last:
            seen = sum(len(np.load(path)["code"]) for path in self._results())
            missing_s = (self.answers - seen) / (2 * self.rate_hz)
            end_s = min(self.end_s, time.monotonic() + max(10.0, 1.2 * missing_s))
        sleep_until(end_s)

    def _highest_hz(self, server: Server) -> float:
        """Answers a second while all callers ask one after the other."""
        with self._callers(server, "trial", rate_hz=0.0):
            time.sleep(TRIAL_S)
        path = self.work / "trial.npz"
        calls = np.load(path)
        highest_hz = float((calls["code"] == 0).sum()) / TRIAL_S
        path.unlink()
        return highest_hz

    def _server(self) -> Server:
        # Callers wait until their deadline, and no call is refused for a long queue: p99 shows a busy machine.
        flags = ["--poll-interval-s", str(POLL_S), "--retention-keep", "4", "--queue-s", str(TIMEOUT_S)]
        return Server(self.store.root, self.work / "serve.log", *flags)

    @contextmanager
    def _callers(self, server: Server, name: str, rate_hz: float | None = None) -> Iterator[None]:
        plan = {
            "address": server.address,
            "method": meshfold_v1.METHOD,
            "messages": str(self.messages),
            "rate_hz": self.rate_hz if rate_hz is None else rate_hz,
            "callers": CALLERS,
            "timeout_s": TIMEOUT_S,
        }
        path = self.work / f"{name}.json"
        path.write_text(json.dumps(plan), "utf-8")
        words = [
            sys.executable,
            "-m",
            "benchmarks.load.swap_callers",
            str(path),
            str(path.with_suffix(".npz")),
        ]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise SystemExit("the callers did not start; they said why above")
            yield
            process.stdin.close()
            process.wait()

    def _results(self) -> list[Path]:
        return sorted(self.work.glob("*.npz"))

    def row(self) -> Row:
        calls = self.calls
        # Only these calls are at a rate: after the restarts, callers send one call after the other.
        at_rate = np.load(self.work / "swaps.npz")
        late_ms = 1000 * (at_rate["end_s"] - at_rate["due_s"])
        swapping = np.zeros(len(late_ms), bool)
        for start_s, end_s in self.windows:
            swapping |= (at_rate["end_s"] >= start_s) & (at_rate["due_s"] <= end_s)
        beside_ms, between_ms = (float(np.quantile(late_ms[at], 0.99)) for at in (swapping, ~swapping))
        warm, end = self.held[WARM_SWAPS - 5 : WARM_SWAPS + 5], self.held[-10:]
        warm_mb, end_mb = (float(np.median([held.rss_mb for held in part])) for part in (warm, end))
        figures = {
            "swaps": len(self.windows) - len(self.rolled_s),
            "rollbacks": len(self.rolled_s),
            "failed": int((calls["code"] != 0).sum()),
            "mixed": self.found.mixed(calls),
            "strayed": self.found.strayed(calls, self.pinned),
            "denied_seen": self.found.denied_seen(calls),
            "answers": len(calls["code"]),
            "p99_ratio": round(beside_ms / between_ms, 2),
            "p99_swapping_ms": beside_ms,
            "p99_between_ms": between_ms,
            "memory_ratio": round(end_mb / warm_mb, 3),
            "memory_mb": end_mb,
            "files_least": min(held.files for held in self.held[WARM_SWAPS:]),
            "files_most": max(held.files for held in self.held[WARM_SWAPS:]),
            "rate_hz": round(self.rate_hz, 1),
            "rollback_ms": round(1000 * float(np.median(self.rolled_s)), 1),
        }
        config = {"items": self.world.items, "dimension": self.world.dimension, "versions": VERSIONS}
        return Row("swaps", f"{self.swaps} swaps", config, figures)


if __name__ == "__main__":
    main()
