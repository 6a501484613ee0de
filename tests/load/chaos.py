"""A proxy under load whose mesh and whose model come and go.

    python tests/load/chaos.py --store .meshfold/store

With fallback allowed, while callers go on asking:

1. modes are switched at random and the mesh is killed (SIGKILL, all of its processes) and started again. One side or
   the other can always answer, so no request may fail, and the proxy's counts by side are the callers' own.
2. The model's process, which is the proxy's, is killed in canary and started again. Callers try again while nobody
   listens, as they would with any server that restarts; within their deadlines none fails, and every user is on the
   side on which he was before.
3. The process comes back without the model, since nothing is published where it looks. In canary the mesh answers for
   the model, and says so.

Last line: BENCH {...}. Exit status 1 where a request failed or a count differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from meshfold.commands import console
from meshfold.compat.migration.client import MigrationClient
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb

RETRIEVE = "/mesh.v1.OrchestratorService/Retrieve"
MODES = (("mesh", 0), ("mirror", 0), ("canary", 5), ("canary", 50), ("canary", 95), ("serve", 0), ("only", 0))
CALLERS = 4
USERS = 1000
TIMEOUT_S = 10.0
# Of a caller that tries again while a server restarts.
PATIENCE_S = 120.0
READY_S = 120.0
# In which a proxy meets a mesh that has come back; by itself it tries about once a second.
MET_S = 30.0
READY = re.compile(r'listening on ([^\s,]+)|"orchestrator": \{[^}]*"address": "([^"]+)"')


class Process:
    """A command of ours that can be killed with all that it started, and started again on the same address."""

    def __init__(self, arguments: Sequence[str | Path], log: Path) -> None:
        self.arguments = [str(argument) for argument in arguments]
        self._log = log
        self.address = "127.0.0.1:0"
        self.start()

    def start(self) -> None:
        """Until it listens. Where the port is not free yet it is tried again."""
        end_s = time.monotonic() + READY_S
        while not self._started():
            if time.monotonic() > end_s:
                raise SystemExit(f"`meshfold {self.arguments[0]}` does not start; see {self._log}")
            time.sleep(0.2)

    def _started(self) -> bool:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "meshfold.commands", *self.arguments, "--address", self.address],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONSAFEPATH": "1"},
            )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := READY.search(line):
                self.address = found[1] or found[2]
                return True
        self._process.wait()
        return False

    def kill(self) -> None:
        # Children are looked up before their parent is gone.
        for process in [*_descendants(self._process.pid), self._process.pid]:
            os.kill(process, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _descendants(process: int) -> list[int]:
    """Source: proc(5)."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    return [below for child in children for below in (child, *_descendants(child))]


@dataclass
class Told:
    """What callers got. by: answers of each side. sides: those that answered each user."""

    by: Counter[str] = field(default_factory=Counter)
    fallbacks: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    sides: dict[int, set[str]] = field(default_factory=dict)
    retries: int = 0
    longest_s: float = 0.0

    @property
    def requests(self) -> int:
        return self.by.total() + self.failures.total()


class Callers:
    """Threads that ask one request after the other until the block ends."""

    def __init__(self, address: str, surface: str, patient: bool = False) -> None:
        """patient: they try again while nobody listens."""
        self.told = Told()
        self._address = address
        self._surface = surface
        self._patient = patient
        self._stop = threading.Event()
        self._turn = threading.Lock()
        self._threads = [threading.Thread(target=self._ask_on, args=(seed,)) for seed in range(CALLERS)]

    def __enter__(self) -> Told:
        for thread in self._threads:
            thread.start()
        return self.told

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask_on(self, seed: int) -> None:
        rng = random.Random(seed)
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_reconnect_backoff_ms", 500)]
        with grpc.insecure_channel(self._address, options) as channel:
            call = channel.unary_unary(RETRIEVE)
            while not self._stop.is_set():
                user_id = rng.randrange(1, USERS)
                message = pb.RetrieveRequest(surface=self._surface, max_results=20, user={"user_id": user_id})
                self._ask(call, user_id, message.SerializeToString())

    def _ask(self, call: Any, user_id: int, message: bytes) -> None:
        start_s = time.monotonic()
        while True:
            try:
                _, state = call.with_call(message, timeout=TIMEOUT_S)
            except grpc.RpcError as error:
                waited_s = time.monotonic() - start_s
                if self._patient and error.code() is grpc.StatusCode.UNAVAILABLE and waited_s < PATIENCE_S:
                    with self._turn:
                        self.told.retries += 1
                    time.sleep(0.05)
                    continue
                with self._turn:
                    self.told.failures[f"{error.code().name}: {error.details()}"] += 1
                return
            trailing = dict(state.trailing_metadata())
            with self._turn:
                side = trailing["meshfold-answered-by"]
                self.told.by[side] += 1
                self.told.sides.setdefault(user_id, set()).add(side)
                if "meshfold-fallback" in trailing:
                    self.told.fallbacks[trailing["meshfold-fallback"]] += 1
                self.told.longest_s = max(self.told.longest_s, time.monotonic() - start_s)
            return


class Chaos:
    """A mesh and a proxy in front of it, both as processes."""

    def __init__(self, store: Path, surface: str, mesh: Sequence[str | Path], work: Path) -> None:
        """mesh: the command that starts it."""
        self.surface = surface
        self.mesh = Process(mesh, work / "mesh.log")
        self._store = store
        self._work = work
        with _free_port() as metrics, _free_port() as operators:
            self._metrics, self._operators = metrics, operators
        self.proxy = Process(self._serve(store), work / "serve.log")

    def _serve(self, store: Path) -> list[str | Path]:
        state: list[str | Path] = [
            "--migration-state",
            self._work / "modes.json",
            "--migration-fallback",
            "true",
        ]
        return [
            "serve",
            "--store",
            store,
            "--mesh",
            self.mesh.address,
            "--metrics-address",
            self._metrics,
            "--admin-address",
            self._operators,
            *state,
        ]

    def close(self) -> None:
        for process in (self.proxy, self.mesh):
            process.kill()

    def switch(self, mode: str, percent: float = 0.0) -> None:
        client = MigrationClient(self._operators)
        try:
            client.set(self.surface, mode, percent, "chaos", "")
        finally:
            client.close()

    def switches_and_kills(self, switches: int, kills: int, up_s: float) -> tuple[Told, Counter[str]]:
        """What callers got, and the proxy's own counts. up_s: how long the mesh is up, and down, between kills."""
        killing = threading.Event()

        def kill() -> None:
            for _ in range(kills):
                time.sleep(up_s)
                self.mesh.kill()
                time.sleep(up_s)
                self.mesh.start()
            killing.set()

        killer = threading.Thread(target=kill)
        rng = random.Random(0)
        with Callers(self.proxy.address, self.surface) as told:
            killer.start()
            switched = 0
            while not killing.is_set() or switched < switches:
                self.switch(*rng.choice(MODES))
                switched += 1
                time.sleep(0.2)
            killer.join()
        # Without calls on their way nothing is counted any more.
        return told, self.counted()

    def process_killed_in_canary(self, kills: int, up_s: float) -> Told:
        self._meet_mesh()
        self.switch("canary", 50)
        with Callers(self.proxy.address, self.surface, patient=True) as told:
            for _ in range(kills):
                time.sleep(up_s)
                self.proxy.kill()
                self.proxy.start()
            time.sleep(up_s)
        return told

    def _meet_mesh(self) -> None:
        """Until the mesh answers through the proxy, which may not have noticed yet that it came back: till then its
        users are answered by the model."""
        self.switch("mesh")
        end_s = time.monotonic() + MET_S
        while True:
            with Callers(self.proxy.address, self.surface) as told:
                time.sleep(0.1)
            if told.by["mesh"] and not told.fallbacks and not told.failures:
                return
            if time.monotonic() > end_s:
                raise SystemExit(f"the proxy does not meet the mesh again within {MET_S:g} s")

    def without_the_model(self, seconds: float) -> Told:
        self.switch("canary", 50)
        self.proxy.kill()
        self.proxy.arguments = [str(argument) for argument in self._serve(self._work / "nothing")]
        self.proxy.start()
        with Callers(self.proxy.address, self.surface) as told:
            time.sleep(seconds)
        return told

    def counted(self) -> Counter[str]:
        """Answers by side, and failures, as the proxy counts them."""
        with urllib.request.urlopen(f"http://{self._metrics}/metrics", timeout=10) as response:
            text = response.read().decode()
        counts: Counter[str] = Counter()
        for line in text.splitlines():
            if found := re.match(r'meshfold_answers_total\{code="(\w+)",side="(\w+)",.*\} (\S+)', line):
                counts[found[2] if found[1] == "OK" else found[1]] += int(float(found[3]))
        return counts


@contextmanager
def _free_port() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", type=Path, required=True, help="of the snapshot that both sides serve")
    parser.add_argument("--surface", required=True)
    parser.add_argument("--switches", type=int, default=200)
    parser.add_argument("--kills", type=int, default=10, help="of the mesh")
    parser.add_argument("--restarts", type=int, default=5, help="of the proxy's process")
    parser.add_argument("--up", type=float, default=5.0, metavar="SECONDS", help="between kills")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        mesh = ["mesh", "up", "--store", args.store, "--surface", args.surface, "--json"]
        chaos = Chaos(args.store, args.surface, [*mesh, "--indices", Path(folder) / "mesh"], Path(folder))
        try:
            moving, counted = chaos.switches_and_kills(args.switches, args.kills, args.up)
            killed = chaos.process_killed_in_canary(args.restarts, args.up)
            lost = chaos.without_the_model(2 * args.up)
        finally:
            chaos.close()
    failed = show({"switched, mesh killed": moving, "process killed": killed, "model lost": lost})
    moved = sum(len(sides) > 1 for sides in killed.sides.values())
    same_counts = counted == moving.by
    if not same_counts:
        print(f"the proxy counted {dict(counted)}, and callers got {dict(moving.by)}", file=sys.stderr)
    told = {
        "name": "chaos",
        "switches": args.switches,
        "mesh_kills": args.kills,
        "process_kills": args.restarts,
        "requests": moving.requests + killed.requests + lost.requests,
        "failed": failed,
        "users_moved": moved,
        "counts_equal": same_counts,
    }
    print(f"BENCH {json.dumps(told)}")
    sys.exit(1 if failed or moved or not same_counts or lost.by["model"] else 0)


def show(phases: dict[str, Told]) -> int:
    """A table of what callers got; how many requests failed."""
    rows = []
    for name, told in phases.items():
        for failure, number in told.failures.items():
            print(f"{name}: {number} x {failure}", file=sys.stderr)
        rows.append(
            [
                name,
                told.requests,
                told.by["mesh"],
                told.by["model"],
                ", ".join(f"{reason} {number}" for reason, number in sorted(told.fallbacks.items())),
                told.retries,
                told.failures.total(),
                round(told.longest_s, 2),
            ]
        )
    columns = ["", "requests", "by mesh", "by model", "fallbacks", "retries", "failed", "longest s"]
    console.table(columns, rows)
    return sum(told.failures.total() for told in phases.values())


if __name__ == "__main__":
    main()
