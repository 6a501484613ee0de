"""`meshfold serve` and a stand-in mesh as processes that are measured from outside. Source of figures: proc(5)."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2

READY_S = 120.0
STOP_S = 20.0
_TICKS_HZ = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Resources:
    """What a process and those that it forked hold. rss_mb: resident, with mapped files; anonymous_mb: less those; what
    several share counts once. cpu_s: spent so far."""

    rss_mb: float
    anonymous_mb: float
    threads: int
    files: int
    cpu_s: float


class Process:
    """A process of ours, stopped at the end of the block."""

    def __init__(self, words: Sequence[str | Path], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with log.open("a") as said:
            self.popen = subprocess.Popen(
                [sys.executable, *map(str, words)],
                stdout=said,
                stderr=said,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL where that takes too long."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        self.popen.wait()

    def resources(self) -> Resources:
        total = Resources(0.0, 0.0, 0, 0, 0.0)
        for pid in forked(self.pid):
            # One may end meanwhile: of a snapshot that was replaced.
            with suppress(OSError):
                total = _added(total, _resources(pid))
        return total

    def mapped(self) -> set[str]:
        """Files that are mapped; those that were removed end in ` (deleted)`."""
        lines: list[str] = []
        for pid in forked(self.pid):
            with suppress(OSError):
                lines += Path(f"/proc/{pid}/maps").read_text().splitlines()
        return {line.split(maxsplit=5)[5] for line in lines if len(line.split(maxsplit=5)) == 6}

    def wait_for(self, address: str) -> None:
        """Until health says SERVING."""
        end_s = time.monotonic() + READY_S
        while not serving(address, 1.0):
            if self.popen.poll() is not None or time.monotonic() > end_s:
                raise SystemExit(f"a process did not start; see {self._log}")
            time.sleep(0.05)


class Server(Process):
    """`meshfold serve` on free ports."""

    def __init__(self, store: Path, log: Path, *flags: str | Path) -> None:
        self.address, self.metrics_address, self.admin_address = free_addresses(3)
        own = ["--address", self.address, "--metrics-address", self.metrics_address]
        own += ["--admin-address", self.admin_address]
        super().__init__(["-P", "-m", "meshfold.commands", "serve", "--store", store, *own, *flags], log)
        self.wait_for(self.address)

    def metrics(self) -> str:
        """What Prometheus would fetch."""
        with urllib.request.urlopen(f"http://{self.metrics_address}/metrics", timeout=10) as response:
            text: str = response.read().decode()
        return text


class StandIn(Process):
    """A mesh that answers with canned bytes: at once, after a while, or never."""

    def __init__(self, log: Path) -> None:
        (self.address,) = free_addresses(1)
        self.results = 0
        self._words = ["-m", "benchmarks.load.standin", "--address", self.address]
        super().__init__(self._words, log)
        self.wait_for(self.address)

    def answer(self, delay_s: float | None, results: int) -> None:
        """delay_s: None for never, until it is told otherwise; then those who wait are answered."""
        self.results = results
        with grpc.insecure_channel(self.address) as channel:
            told = json.dumps({"delay_s": delay_s, "results": results}).encode()
            channel.unary_unary("/standin.Control/Answer")(told, timeout=30, wait_for_ready=True)

    def revive(self) -> None:
        """After it was killed: at the same address, answering at once as before."""
        super().__init__(self._words, self._log)
        self.wait_for(self.address)
        self.answer(0.0, self.results)


def forked(pid: int) -> list[int]:
    """The process, and those below it that run the same command line: it forked them. Source: proc(5)."""
    parents, words = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            numbers = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(numbers[1])
            words[int(folder.name)] = (folder / "cmdline").read_bytes()
    tree = [pid]
    for parent in tree:
        tree += [child for child, of in parents.items() if of == parent and words[child] == words.get(pid)]
    return tree


def _resources(pid: int) -> Resources:
    folder = Path(f"/proc/{pid}")
    rollup = (folder / "smaps_rollup").read_text()
    shares = {
        name: int(size) / 1024 for name, size in re.findall(r"^(\w+):\s+(\d+) kB", rollup, re.MULTILINE)
    }
    threads = re.search(r"^Threads:\s+(\d+)", (folder / "status").read_text(), re.MULTILINE)
    return Resources(
        rss_mb=shares["Pss"],
        anonymous_mb=shares.get("Pss_Anon", shares["Pss"]),
        threads=int(threads[1]) if threads else 0,
        files=len(os.listdir(folder / "fd")),
        cpu_s=cpu_s(pid),
    )


def _added(one: Resources, other: Resources) -> Resources:
    return Resources(*(getattr(one, f.name) + getattr(other, f.name) for f in fields(Resources)))


def serving(address: str, timeout_s: float) -> bool:
    with grpc.insecure_channel(address) as channel:
        check: Any = channel.unary_unary(
            "/grpc.health.v1.Health/Check", response_deserializer=health_pb2.HealthCheckResponse.FromString
        )
        with suppress(grpc.RpcError):
            serves: bool = check(b"", timeout=timeout_s).status == health_pb2.HealthCheckResponse.SERVING
            return serves
    return False


def cpu_s(pid: int) -> float:
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / _TICKS_HZ


def free_addresses(number: int) -> list[str]:
    """Loopback addresses that nobody listens on at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    addresses = [f"127.0.0.1:{held.getsockname()[1]}" for held in sockets]
    for held in sockets:
        held.close()
    return addresses
