"""Callers who do not behave, beside one who does and an operator: who of the two notices?

    python benchmarks/hang.py --keep

A server with two surfaces, in front of a stand-in for a mesh or alone. One surface is attacked. A caller of the other
asks on at a steady rate in an open loop, with deadlines of 1 s, alone first and then during the attack. An operator
checks health at both addresses, reads modes and sets one; during the last seconds of an attack, when the caller is
done, it kills. Of each attack:

- ratio: the caller's p99 during the attack, beside alone: medians over blocks of time. failed: the caller's calls.
- operator_late: calls of the operator that failed or took more than 100 ms.
- memory before, the most meanwhile, and after; threads and files after.
- what the attacker did, and the cores that it took. It is last in line for the processor.

Two controls show what this machine does by itself: no attack, and as many cores burned as the costliest attacker took.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from load_calls import HEALTH, RETRIEVE, Calls, Generator, Phase, Stream, quantile, write_messages
from load_cases import CONTROL, Attacker, Case, cases
from load_report import bench, keep, show
from load_server import Resources, Server, StandIn, serving
from load_signalled import LAST
from load_world import ATTACKED, OTHER, World
from rows import Row

from meshfold.compat.client import CallFailed
from meshfold.compat.migration.client import MigrationClient
from meshfold.protos.meshfold.v1 import migration_pb2 as migration
from meshfold.service import console

CALLER_HZ, OPERATOR_HZ = 20.0, 2.0
CALLER_S = OPERATOR_S = 1.0
MOST_RATIO = 1.5
OPERATOR_MS = 100.0
BLOCK_S = 5.0
SAMPLE_S = 0.2
# After an attack, for the server to answer health again; past that it is started again.
WELL_S = 10.0
MIGRATION = "/meshfold.v1.MigrationService/"
SHOWN = (
    "caller_alone_p99_ms",
    "caller_p99_ms",
    "ratio",
    "failed",
    "operator_late",
    "operator_max_ms",
    "extra_mb",
    "after_mb",
    "attacker_cores",
    "server_cores",
)


@dataclass(frozen=True)
class Lengths:
    """Seconds of each part."""

    warm_s: float = 8.0
    alone_s: float = 15.0
    during_s: float = 20.0
    kill_s: float = 3.0
    after_s: float = 3.0


QUICK = Lengths(0.5, 1.0, 1.5, 0.5, 0.2)
# Of a quick run: one of calls and two of streams.
QUICK_CASES = ("mesh hangs, deadlines of 60 s", "calls without a message", "answers that nobody reads")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("build/hang"), help="default: %(default)s")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--only", default="", help="attacks whose name contains this")
    parser.add_argument("--quick", action="store_true", help="three attacks of a second; no figures to go by")
    parser.add_argument("--keep", action="store_true", help="append the rows to benchmarks/results")
    args = parser.parse_args()
    world = World(args.work / "world", items=args.items)
    world.make()
    chosen = [c for c in cases() if args.only in c.name and (not args.quick or c.name in QUICK_CASES)]
    hang = Hang(world, args.work, QUICK if args.quick else Lengths())
    rows = hang.rows(chosen, controls=not args.quick)
    show(rows, SHOWN, f"a caller's p99 within {MOST_RATIO:g} times, an operator within {OPERATOR_MS:g} ms")
    path = keep(rows, args.keep, args.work)
    console.print(f"rows in {path}")
    attacks = [row.figures for row in rows if row.config["attack"]]
    bench(
        {
            "name": "hang",
            "attacks": len(attacks),
            "starved": sum(f["ratio"] > MOST_RATIO or f["failed"] > 0 for f in attacks),
            "operator_late": int(sum(f["operator_late"] for f in attacks)),
            "peak_extra_mb": round(max(f["extra_mb"] for f in attacks), 1),
        }
    )


class Hang:
    """Servers under attack; one process a kind of server, as long as it is well."""

    def __init__(self, world: World, work: Path, lengths: Lengths) -> None:
        self._world = world
        self._work = work
        self._lengths = lengths
        self._seed = 0

    def rows(self, chosen: Sequence[Case], controls: bool) -> list[Row]:
        rows: list[Row] = []
        with console.progress() as progress:
            for proxied in (True, False):
                group = [case for case in chosen if case.proxied == proxied]
                if controls and not proxied:
                    group = [CONTROL, *group]
                with Sides(self._world, self._work, proxied, self._lengths) as sides:
                    for case in group:
                        sides.make_well()
                        rows.append(self._row(sides, case))
                        progress("attacks", len(rows), len(chosen) + 2 * controls)
                    if controls and not proxied:
                        most = max(row.figures["attacker_cores"] for row in rows)
                        sides.make_well()
                        rows.append(self._row(sides, CONTROL, burn=most))
        return rows

    def _row(self, sides: Sides, case: Case, burn: float = 0.0) -> Row:
        """burn: cores that are burned in place of an attack."""
        name = f"{case.name}, {burn:.2f} cores burned" if burn else case.name
        self._seed += 1
        measured = sides.measure(case, self._lengths, self._seed, burn)
        lengths = self._lengths
        start_s = measured.begin_s + lengths.alone_s
        end_s = start_s + lengths.during_s
        caller = measured.calls["caller"]
        alone, during = caller.during(measured.begin_s, start_s), caller.during(start_s, end_s)
        alone_p99_ms, p99_ms = _blocks_p99_ms(alone), _blocks_p99_ms(during)
        operators = [c.during(start_s, np.inf) for n, c in measured.calls.items() if n != "caller"]
        times_ms = np.concatenate([c.latency_ms for c in operators])
        lates = [int((~c.ok | (c.latency_ms > OPERATOR_MS)).sum()) for c in operators]
        before, after = measured.before, measured.after
        return Row(
            name="hang",
            case=name,
            config={
                "attack": case.attack is not None,
                "server": "in front of a mesh" if case.proxied else "alone",
                "items": self._world.items,
                "caller_hz": CALLER_HZ,
                "during_s": lengths.during_s,
                "caller_codes": during.codes(),
                "attacker": {k: v for k, v in measured.attacker.items() if k != "cores"},
                "late_by_operator": {
                    n: late
                    for n, late in zip([n for n in measured.calls if n != "caller"], lates, strict=True)
                },
            },
            figures={
                "caller_alone_p50_ms": quantile(alone.latency_ms, 0.5),
                "caller_p50_ms": quantile(during.latency_ms, 0.5),
                "caller_alone_p99_ms": alone_p99_ms,
                "caller_p99_ms": p99_ms,
                "caller_max_ms": quantile(during.latency_ms, 1.0),
                "ratio": p99_ms / max(alone_p99_ms, 1e-9),
                "failed": int((~during.ok | (during.latency_ms > 1000 * CALLER_S)).sum()),
                "operator_calls": len(times_ms),
                "operator_late": sum(lates),
                "operator_p99_ms": quantile(times_ms, 0.99),
                "operator_max_ms": quantile(times_ms, 1.0),
                "before_mb": before.rss_mb,
                "extra_mb": measured.peak_mb - before.rss_mb,
                "after_mb": after.rss_mb - before.rss_mb,
                "threads_before": before.threads,
                "threads_peak": measured.threads_peak,
                "threads_after": after.threads,
                "files_before": before.files,
                "files_after": after.files,
                "attacker_cores": measured.attacker["cores"],
                "server_cores": (after.cpu_s - before.cpu_s) / (lengths.during_s + lengths.kill_s),
                "generator_cores": measured.generator_cores,
                "server_starts": sides.starts,
            },
        )


@dataclass(frozen=True, eq=False)
class Measured:
    """An attack: the calls of caller and operator, and what the server held."""

    begin_s: float
    calls: dict[str, Calls]
    attacker: dict[str, Any]
    before: Resources
    after: Resources
    peak_mb: float
    threads_peak: int
    generator_cores: float


class Sides:
    """A server, with a stand-in for a mesh behind it or alone."""

    def __init__(self, world: World, work: Path, proxied: bool, lengths: Lengths) -> None:
        self._world = world
        self._work = work
        self._proxied = proxied
        self._lengths = lengths
        self._stack = ExitStack()
        self._server: Any = None
        self.starts = 0

    def __enter__(self) -> Sides:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def make_well(self) -> None:
        """A server that answers its operators, in the modes in which attacks begin; another where it does not soon."""
        if self._server is not None and self._well():
            return
        self.starts += 1
        self._stack.close()
        flags: list[str | Path] = []
        if self._proxied:
            self._mesh = self._stack.enter_context(StandIn(self._work / "mesh.log"))
            state = self._work / "modes.json"
            state.unlink(missing_ok=True)
            flags = ["--mesh", self._mesh.address, "--migration-state", state]
        log = self._work / "serve.log"
        self._server = self._stack.enter_context(Server(self._world.store, log, *flags))
        if not self._well():
            raise SystemExit(f"the server does not answer its operators; see {log}")
        self._warm()

    def _well(self) -> bool:
        end_s = time.monotonic() + WELL_S
        while time.monotonic() < end_s:
            if serving(self._server.address, 1.0) and serving(self._server.admin_address, 1.0):
                try:
                    self._restore()
                except CallFailed:
                    continue
                return True
        return False

    def measure(self, case: Case, lengths: Lengths, seed: int, burn: float) -> Measured:
        server = self._server
        seconds = lengths.during_s + lengths.kill_s
        attacker = Attacker(case, server.address, self._world, seconds)
        stop = threading.Event()
        try:
            with Generator(self._streams(lengths), seed, drain_s=CALLER_S) as generator:
                begin_s = generator.start()
                _sleep_until(begin_s + lengths.alone_s - 0.5)
                if self._proxied:
                    self._mesh.answer(case.mesh_delay_s, case.mesh_results)
                before = server.resources()
                peak = Peak(server.resources, stop)
                _sleep_until(begin_s + lengths.alone_s)
                attacker.start()
                burner = _Burner(burn, seconds) if burn else None
                calls = generator.calls()
                told = attacker.told()
                if burner is not None:
                    told["cores"] = burner.cores()
                stop.set()
                cores = generator.cost.cpu_s / generator.cost.wall_s
        finally:
            stop.set()
            attacker.close()
        if self._proxied:
            self._mesh.answer(0.0, 20)
        time.sleep(lengths.after_s)
        return Measured(begin_s, calls, told, before, server.resources(), peak.rss_mb, peak.threads, cores)

    def _streams(self, lengths: Lengths) -> list[Stream]:
        """The well-behaved caller, and the operator's calls."""
        server, home = self._server, self._world.home
        caller = [Phase(CALLER_HZ, lengths.alone_s + lengths.during_s, CALLER_S)]
        watching = [Phase(OPERATOR_HZ, lengths.alone_s + lengths.during_s + lengths.kill_s, OPERATOR_S)]
        empty = write_messages(home / "empty.messages", [b""])
        streams = [
            Stream("caller", server.address, RETRIEVE, self._world.light, caller, "even"),
            Stream("health", server.address, HEALTH, empty, watching, "even", 1),
        ]
        if server.admin_address != server.address:
            streams.append(Stream("health, admin", server.admin_address, HEALTH, empty, watching, "even", 1))
        if self._proxied:
            mode = migration.SetModeRequest(surface=ATTACKED, mode={"kind": migration.Mode.MESH}, who="hang")
            setting = write_messages(home / "set.messages", [mode.SerializeToString()])
            kill = write_messages(
                home / "kill.messages", [migration.KillRequest(who="hang").SerializeToString()]
            )
            killing = [
                Phase(0.0, lengths.alone_s + lengths.during_s, None),
                Phase(OPERATOR_HZ, lengths.kill_s, OPERATOR_S),
            ]
            for name, method, file, phases in (
                ("modes", "GetModes", empty, watching),
                ("set", "SetMode", setting, watching),
                ("kill", "Kill", kill, killing),
            ):
                address = server.admin_address
                streams.append(Stream(name, address, MIGRATION + method, file, phases, "even", 1))
        return streams

    def _restore(self) -> None:
        """The mesh answers one surface, the model the other. Raises CallFailed."""
        if not self._proxied:
            return
        client = MigrationClient(self._server.admin_address, timeout_s=2.0)
        try:
            client.set(ATTACKED, "mesh", 0.0, "hang", "")
            client.set(OTHER, "only", 0.0, "hang", "")
        finally:
            client.close()

    def _warm(self) -> None:
        """Calls of both surfaces, so that what is allocated once is there before anything is measured."""
        phases = [Phase(CALLER_HZ, self._lengths.warm_s, CALLER_S)]
        address = self._server.address
        streams = [
            Stream("caller", address, RETRIEVE, self._world.light, phases),
            Stream("attacked", address, RETRIEVE, self._world.heavy, phases),
        ]
        with Generator(streams) as generator:
            generator.start()
            generator.calls()


class Peak:
    """The most that a process held while a thread looked."""

    def __init__(self, look: Callable[[], Resources], stop: threading.Event) -> None:
        self._look = look
        self._stop = stop
        self.rss_mb = 0.0
        self.threads = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            held = self._look()
            self.rss_mb = max(self.rss_mb, held.rss_mb)
            self.threads = max(self.threads, held.threads)
            if self._stop.wait(SAMPLE_S):
                return


_BURN = """
import json, os, sys, time
cores, seconds, niceness = map(float, sys.argv[1:])
os.setpriority(os.PRIO_PROCESS, 0, int(niceness))
end = time.monotonic() + seconds
while time.monotonic() < end:
    until = time.process_time() + 0.01 * cores
    while time.process_time() < until:
        pass
    time.sleep(0.01 * (1 - cores))
print(time.process_time() / seconds)
"""


class _Burner:
    """A process that does nothing but take a part of a core, as last in line as an attacker."""

    def __init__(self, cores: float, seconds: float) -> None:
        words = [sys.executable, "-c", _BURN, str(min(cores, 1.0)), str(seconds), str(LAST)]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    def cores(self) -> float:
        return float(self._process.communicate()[0])


def _blocks_p99_ms(calls: Calls) -> float:
    """The median of the blocks' p99."""
    if not len(calls):
        return 0.0
    blocks = ((calls.due_s - calls.due_s.min()) // BLOCK_S).astype(int)
    return float(
        np.median([quantile(calls.latency_ms[blocks == block], 0.99) for block in set(blocks.tolist())])
    )


def _sleep_until(moment_s: float) -> None:
    time.sleep(max(0.0, moment_s - time.monotonic()))


if __name__ == "__main__":
    main()
