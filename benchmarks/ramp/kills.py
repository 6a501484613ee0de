"""The ramp's process and the server's are killed (SIGKILL) at random moments, while callers go on asking.

A small catalog, a mesh, and `meshfold serve --mesh` whose comparison feeds `meshfold migrate`, which goes from mirror
to serve in seconds and begins again. Callers try again while nobody listens, as with any server that restarts.
Afterwards every change of a mode must follow a decision that was in the audit log before it, with figures that allow
it, and no request may have failed.

    python -m benchmarks.ramp.kills --kills 50
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from benchmarks.mesh.demo import MESHFOLD, RETRIEVE
from benchmarks.mesh.traffic import traffic
from benchmarks.ramp.demo import free_address
from meshfold.compat.migration.mode_history import ModeHistory
from meshfold.compat.migration.modes import Change
from meshfold.compat.ramp.audit_log import Action, AuditEntry, AuditLog, By, tag_of
from meshfold.compat.ramp.decisions import mode_of
from meshfold.compat.ramp.servers import WHO
from meshfold.compat.ramp.steps import share_of
from meshfold.model.config import IndexConfig
from meshfold.model.publishing import ModelParts, publish_data
from meshfold.protos.mesh.v1 import orchestrator_pb2

SURFACE = "generated"
ITEMS, USERS, RESULTS, CALLERS = 2000, 500, 20, 2
READY_S, TIMEOUT_S, PATIENCE_S = 120.0, 20.0, 120.0
# Between kills that come at any time, up to this: processes take some 4 s to start, and some are not ready yet.
UP_S = 9.0
# Other kills come so soon after the audit log has grown, or after so long without that.
SOON_S, LONG_S = 0.3, 60.0
# A gate that says yes after few pairs: what is tried is when modes are switched, not what the gate knows.
PLAN = """\
servers = ["{operators}"]
surfaces = ["generated"]
pairs = ["pairs"]
store = "store"
hold_s = 0.4
poll_s = 0.2
state = "{state}"
log = "ramp-log.jsonl"
[gate]
margin = 0.9
error_rate = 0.1
min_users = 20
causes_stop = 0.9
causes_pass = 0.95
exposure_share = 0.99
errors_stop = 0.01
errors_pass = 0.5
p99_stop_ms = inf
"""


class Process:
    """A command of ours that is killed, and started again."""

    def __init__(self, arguments: Sequence[str | Path], log: Path, ready: str = "") -> None:
        """ready: in the line that it prints when it is."""
        self._arguments = [MESHFOLD, *arguments]
        self._log = log
        self._ready = ready
        self.kills = 0
        self.said: list[str] = []
        self._start()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self.kills += 1

    def ensure(self) -> None:
        """Runs again where it ended."""
        if self._process.poll() is not None:
            self._start()

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def wait_ready(self) -> None:
        end_s = time.monotonic() + READY_S
        while not any(self._ready in line for line in self.said):
            if time.monotonic() > end_s:
                raise SystemExit(
                    f"`{' '.join(map(str, self._arguments[:3]))}` does not start; see {self._log}"
                )
            time.sleep(0.05)

    def _start(self) -> None:
        self.said = []
        with self._log.open("a") as log:
            self._process = subprocess.Popen(self._arguments, stdout=subprocess.PIPE, stderr=log, text=True)
        threading.Thread(target=self._read, args=(self._process, self.said), daemon=True).start()

    def _read(self, process: subprocess.Popen[str], said: list[str]) -> None:
        assert process.stdout is not None
        with self._log.open("a") as log:
            for line in process.stdout:
                said.append(line)
                log.write(line)
                log.flush()


@dataclass
class Callers:
    """Threads that ask one request after the other, and try again while nobody listens."""

    address: str
    messages: Sequence[orchestrator_pb2.RetrieveRequest]
    answers: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    retries: int = 0

    def __enter__(self) -> Callers:
        self._stop = threading.Event()
        self._turn = threading.Lock()
        self._threads = [threading.Thread(target=self._ask_on, args=(place,)) for place in range(CALLERS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask_on(self, place: int) -> None:
        options = [("grpc.max_reconnect_backoff_ms", 500), ("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(self.address, options) as channel:
            call = channel.unary_unary(RETRIEVE)
            number = place
            while not self._stop.is_set():
                request = orchestrator_pb2.RetrieveRequest()
                request.CopyFrom(self.messages[number % len(self.messages)])
                request.request_id = f"request-{number}"
                self._ask(call, request.SerializeToString())
                number += CALLERS
                self._stop.wait(0.05)

    def _ask(self, call: Any, message: bytes) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                _, state = call.with_call(message, timeout=TIMEOUT_S)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE and time.monotonic() < end_s:
                    with self._turn:
                        self.retries += 1
                    time.sleep(0.05)
                    continue
                with self._turn:
                    self.failures[f"{error.code().name}: {error.details()}"] += 1
                return
            told = dict(state.trailing_metadata())
            with self._turn:
                self.answers[str(told.get("meshfold-answered-by"))] += 1
            return


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("build/ramp-kills"), help="default: %(default)s")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--up", type=float, default=UP_S, metavar="SECONDS", help="at most, between kills")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    told = killed(args.work, args.kills, args.up, args.seed)
    print(f"BENCH {json.dumps(told)}")
    sys.exit(1 if told["ahead"] or told["failed"] else 0)


def killed(work: Path, kills: int, up_s: float, seed: int) -> dict[str, Any]:
    """What came of so many kills, as the last line tells it."""
    work.mkdir(parents=True, exist_ok=True)
    for path in (*work.glob("ramp*"), *work.glob("modes*"), *work.glob("*.log")):
        path.unlink()
    shutil.rmtree(work / "pairs", ignore_errors=True)
    data = published(work)
    address, operators = free_address(), free_address()
    plan = work / "plan.toml"
    plan.write_text(PLAN.format(operators=operators, state="ramp.json"))
    chance = random.Random(seed)
    mesh = Process(
        [
            "mesh",
            "up",
            "--store",
            work / "store",
            "--surface",
            SURFACE,
            "--exact",
            "--json",
            "--address=127.0.0.1:0",
        ],
        work / "mesh.log",
        "{",
    )
    mesh.wait_ready()
    upstream = json.loads(next(line for line in mesh.said if "{" in line))["orchestrator"]["address"]
    server = Process(_serve(work, upstream, address, operators), work / "serve.log", "operators at")
    server.wait_ready()
    ramp = Process(["migrate", plan], work / "ramp-process.log")
    done = 0
    try:
        with Callers(address, list(traffic(data, USERS, RESULTS))) as callers:
            while ramp.kills + server.kills < kills:
                for _ in moments(work / "ramp-log.jsonl", chance, up_s):
                    server.ensure()
                    if ramp.has_ended:
                        done += begin_again(plan, ramp)
                victim = ramp if chance.random() < 0.6 else server
                victim.kill()
                victim.ensure()
            server.wait_ready()
    finally:
        for process in (ramp, server, mesh):
            process.kill()
    ahead = ahead_of_evidence(work)
    for line in ahead:
        print(line)
    for failure, count in callers.failures.items():
        print(f"{count} x {failure}", file=sys.stderr)
    changes = by_ramps(work)
    return {
        "name": "ramp_kills",
        "kills": ramp.kills + server.kills - 2,
        "of_the_ramp": ramp.kills - 1,
        "of_the_server": server.kills - 1,
        "ramps_in_serve": done,
        "mode_changes": len(changes),
        "ahead": len(ahead),
        "requests": callers.answers.total(),
        "failed": callers.failures.total(),
        "by": dict(callers.answers),
        "retries": callers.retries,
        "rows": str(work / "ramp-log.jsonl"),
    }


def moments(log: Path, chance: random.Random, up_s: float) -> Iterator[None]:
    """Many a second, until a process is to be killed: at any time, or about when a decision is put in effect."""
    start_s = time.monotonic()
    if chance.random() < 0.4:
        end_s, size = start_s + chance.uniform(0.0, up_s), -1
    else:
        end_s, size = start_s + LONG_S, _size(log)
    while time.monotonic() < end_s:
        if size >= 0 and _size(log) > size:
            end_s, size = time.monotonic() + chance.uniform(0.0, SOON_S), -1
        yield
        time.sleep(0.005)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def published(work: Path) -> Path:
    """The data of a catalog, published in the store."""
    data = work / "data"
    if not data.exists():
        words = [f"--items={ITEMS}", "--dimension=16", f"--users={USERS}", f"--out={data}"]
        subprocess.run([MESHFOLD, "data", "generated", *words], check=True, stdout=subprocess.DEVNULL)
    publish_data(data, ModelParts(), work / "store", IndexConfig(), lambda *_: None)
    return data


def _serve(work: Path, mesh: str, address: str, operators: str) -> list[str | Path]:
    comparison = {
        "on": "true",
        "folder": work / "pairs",
        "canary-share": 1,
        "noise-share": 1,
        "noise-delay-s": 0.1,
        "noise-budget": 1_000_000,
        "file-age-s": 0.3,
        "keep-requests": "true",
    }
    flags = [f"--comparison-{name}={value}" for name, value in comparison.items()]
    return [
        *("serve", f"--address={address}", f"--admin-address={operators}", f"--mesh={mesh}"),
        *(
            f"--store={work / 'store'}",
            f"--migration-state={work / 'modes.json'}",
            "--migration-fallback=true",
        ),
        *flags,
    ]


def begin_again(plan: Path, ramp: Process) -> int:
    """1 where the ramp had come to its end, and goes on from mirror; 0 where it only has to be started."""
    told = subprocess.run(
        [MESHFOLD, "migrate", "override", plan, "--to", "mirror", "--why", "once more"],
        check=False,
        capture_output=True,
        text=True,
    )
    ramp.ensure()
    return int(told.returncode == 0)


def by_ramps(work: Path) -> list[Change]:
    """Changes of modes by a ramp, oldest first."""
    history = ModeHistory(work / "modes.json.history").latest(100_000)
    return [change for change in reversed(history) if change.who == WHO]


def ahead_of_evidence(work: Path) -> list[str]:
    """A line for each change of a mode that its decision does not allow, or that no decision came before."""
    entries = {entry.number: entry for entry in AuditLog(work / "ramp-log.jsonl").latest(100_000)}
    wrong = []
    for change in by_ramps(work):
        number = change.why.removeprefix(tag_of(next(iter(entries.values())).ramp)).partition(":")[0]
        entry = entries.get(int(number)) if number.isdigit() else None
        if entry is None:
            wrong.append(f"{change.mode} follows no decision in the audit log: {change.why}")
        elif entry.after != str(change.mode) or entry.unix_ms > change.unix_ms:
            wrong.append(f"{change.mode} is not what decision {entry.number} says, or came before it")
        elif why := unfounded(entry):
            wrong.append(f"decision {entry.number} to {entry.after} {why}")
    return wrong


def unfounded(entry: AuditEntry) -> str:
    """Why the figures of a decision do not allow it; "" where they do."""
    rises = share_of(mode_of(entry.after)) > share_of(mode_of(entry.before))
    if not rises or entry.by is By.OPERATOR:
        return ""
    if entry.action is not Action.PROMOTE or entry.verdict is None:
        return "rises without a verdict"
    if entry.verdict["decision"] != "yes" or not entry.verdict["pairs"]:
        return f"rises though the gate says {entry.verdict['decision']} of {entry.verdict['pairs']} pairs"
    return ""


if __name__ == "__main__":
    main()
