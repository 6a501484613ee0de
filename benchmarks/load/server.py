"""`meshfold serve` and a stand-in mesh as processes that are measured from outside."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from benchmarks.process_tree import cpu_s, forked, megabytes
from benchmarks.waiting import wait_until

READY_S = 120.0
STOP_S = 20.0


@dataclass(frozen=True)
class Resources:
    """Resources of a process and its forks. rss_mb: resident memory with mapped files; anonymous_mb: without mapped
    files; shared pages count once. cpu_s: processor time so far."""

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
        """Sends SIGTERM, and SIGKILL after STOP_S."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        self.popen.wait()

    def resources(self) -> Resources:
        each = []
        for pid in forked(self.pid):
            # The process of a replaced snapshot may end meanwhile.
            with suppress(OSError):
                each.append(astuple(_resources(pid)))
        return Resources(*map(sum, zip(*each, strict=True))) if each else Resources(0.0, 0.0, 0, 0, 0.0)

    def mapped(self) -> set[str]:
        """Mapped files; names of removed files end in ` (deleted)`."""
        lines: list[str] = []
        for pid in forked(self.pid):
            with suppress(OSError):
                lines += Path(f"/proc/{pid}/maps").read_text().splitlines()
        return {line.split(maxsplit=5)[5] for line in lines if len(line.split(maxsplit=5)) == 6}

    def wait_for(self, address: str, within_s: float = READY_S) -> None:
        """Waits until health is SERVING. Raises SystemExit."""
        trouble = f"a process did not start; see {self._log}"

        def is_ready() -> bool:
            if self.popen.poll() is not None:
                raise SystemExit(trouble)
            return serving(address, 1.0)

        wait_until(is_ready, trouble, within_s)


class Server(Process):
    """`meshfold serve` on free ports."""

    def __init__(self, store: Path, log: Path, *flags: str | Path) -> None:
        self.address, self.metrics_address, self.admin_address = free_addresses(3)
        own = ["--address", self.address, "--metrics-address", self.metrics_address]
        own += ["--admin-address", self.admin_address]
        super().__init__(["-P", "-m", "meshfold.commands", "serve", "--store", store, *own, *flags], log)
        self.wait_for(self.address)

    def samples(self, name: str) -> list[Sample]:
        """Samples of a metric."""
        with urllib.request.urlopen(f"http://{self.metrics_address}/metrics", timeout=10) as response:
            families = list(text_string_to_metric_families(response.read().decode()))
        return [sample for family in families for sample in family.samples if sample.name == name]


class StandIn(Process):
    """A mesh with canned answers: at once, after a delay, or never."""

    def __init__(self, log: Path) -> None:
        (self.address,) = free_addresses(1)
        self.results = 0
        self._words = ["-m", "benchmarks.load.standin", "--address", self.address]
        super().__init__(self._words, log)
        self.wait_for(self.address)

    def answer(self, delay_s: float | None, results: int) -> None:
        """delay_s: None for no answer until the next call of this method, which also ends waiting calls."""
        self.results = results
        with grpc.insecure_channel(self.address) as channel:
            told = json.dumps({"delay_s": delay_s, "results": results}).encode()
            channel.unary_unary("/standin.Control/Answer")(told, timeout=30, wait_for_ready=True)

    def revive(self) -> None:
        """Starts it again after a kill, at the same address, with answers at once."""
        super().__init__(self._words, self._log)
        self.wait_for(self.address)
        self.answer(0.0, self.results)


def _resources(pid: int) -> Resources:
    """Raises OSError for a process that ended."""
    folder = Path(f"/proc/{pid}")
    return Resources(
        rss_mb=megabytes(pid, "smaps_rollup", "Pss"),
        anonymous_mb=megabytes(pid, "smaps_rollup", "Pss_Anon"),
        threads=len(os.listdir(folder / "task")),
        files=len(os.listdir(folder / "fd")),
        cpu_s=cpu_s(pid),
    )


def serving(address: str, timeout_s: float) -> bool:
    with grpc.insecure_channel(address) as channel:
        check: Any = channel.unary_unary(
            "/grpc.health.v1.Health/Check", response_deserializer=health_pb2.HealthCheckResponse.FromString
        )
        with suppress(grpc.RpcError):
            serves: bool = check(b"", timeout=timeout_s).status == health_pb2.HealthCheckResponse.SERVING
            return serves
    return False


def free_addresses(number: int) -> list[str]:
    """Loopback addresses without a listener at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    addresses = [f"127.0.0.1:{held.getsockname()[1]}" for held in sockets]
    for held in sockets:
        held.close()
    return addresses
