"""The servers that hang.py attacks, with a caller and an operator beside the attack."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load.cases import Attacker, Case
from benchmarks.load.server import Resources, Server, StandIn, serving
from benchmarks.load.world import ATTACKED, OTHER, World
from benchmarks.operators import set_mode
from benchmarks.waiting import sleep_until
from meshfold.compat.client import CallFailed
from meshfold.protos.meshfold.v1 import migration_pb2 as migration
from meshfold.tools.bench_calls import HEALTH, RETRIEVE, Calls, Generator, Phase, Stream, send, write_messages
from meshfold.tools.bench_process import LAST

CALLER_HZ, OPERATOR_HZ = 20.0, 2.0
CALLER_S = OPERATOR_S = 1.0
SAMPLE_S = 0.2
# After an attack, for the server to answer its operators; past that it is started again.
WELL_S = 10.0
MIGRATION = "/meshfold.v1.MigrationService/"


@dataclass(frozen=True)
class Lengths:
    """Seconds of each part."""

    warm_s: float = 6.0
    alone_s: float = 12.0
    during_s: float = 16.0
    kill_s: float = 2.0
    after_s: float = 2.0


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
                sleep_until(begin_s + lengths.alone_s - 0.5)
                if self._proxied:
                    self._mesh.answer(case.mesh_delay_s, case.mesh_results)
                before = server.resources()
                peak = Peak(server.resources, stop)
                sleep_until(begin_s + lengths.alone_s)
                attacker.start()
                burner = _Burner(burn, seconds) if burn else None
                calls = generator.calls()
                told = attacker.results()
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
            Stream("health, admin", server.admin_address, HEALTH, empty, watching, "even", 1),
        ]
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
        for surface, mode in ((ATTACKED, "mesh"), (OTHER, "only")):
            set_mode(self._server.admin_address, surface, mode, who="hang", timeout_s=2.0)

    def _warm(self) -> None:
        """Calls of both surfaces, so that what is allocated once is there before anything is measured."""
        phases = [Phase(CALLER_HZ, self._lengths.warm_s, CALLER_S)]
        address = self._server.address
        streams = [
            Stream("caller", address, RETRIEVE, self._world.light, phases),
            Stream("attacked", address, RETRIEVE, self._world.heavy, phases),
        ]
        send(streams)


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
