"""Runs the four services of a mesh as processes that start and stop together."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from meshfold.compat.mesh.settings import ORCHESTRATOR, SERVICES
from meshfold.model.errors import MeshfoldError

_LOOK_S = 0.05
# Seconds beyond the services' own grace, before they are killed.
_KILLED_AFTER_S = 5.0


class ServiceEnded(MeshfoldError):
    """A service of the mesh ended by itself."""


@dataclass(frozen=True, eq=False)
class Running:
    """A healthy service. told: its line of JSON when it was ready."""

    name: str
    process: subprocess.Popen[str]
    told: Mapping[str, Any]

    @property
    def address(self) -> str:
        return str(self.told["address"])


class MeshProcesses:
    """Processes of `meshfold mesh run`. They end with this process in any case, since their standard input closes."""

    def __init__(self, wait_s: float) -> None:
        """wait_s: seconds that a service has to become healthy."""
        self._wait_s = wait_s
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._readers: list[threading.Thread] = []
        self.running: dict[str, Running] = {}

    def start(self, services: Mapping[str, Sequence[str]]) -> None:
        """Starts services together and returns when all are healthy. services: flags of `meshfold mesh run` by name.

        Raises ServiceEnded where one ended or did not become healthy.
        """
        lines: SimpleQueue[tuple[str, str]] = SimpleQueue()
        for name, flags in services.items():
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "meshfold.commands",
                    "mesh",
                    "run",
                    name,
                    *flags,
                    "--attached",
                    "--json",
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                # A terminal's signals reach only this process, which stops the services in order.
                start_new_session=True,
            )
            self._processes[name] = process
            reader = threading.Thread(target=_read, args=(name, process, lines), daemon=True)
            reader.start()
            self._readers.append(reader)
        end_s = time.monotonic() + self._wait_s
        for _ in services:
            name, line = self._next(lines, end_s)
            told = json.loads(line) if line else {}
            if not told.get("serving"):
                raise ServiceEnded(f"{name} has nothing to serve; what it said is above")
            self.running[name] = Running(name, self._processes[name], told)
        for name in services:
            _await_healthy(self.running[name], end_s)

    def ended(self) -> str | None:
        """The name of a service that has ended."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                return name
        return None

    def why(self, name: str) -> str:
        status = self._processes[name].returncode
        said = (
            f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        )
        return f"{name} {said}"

    def stop(self, grace_s: float) -> None:
        """Stops the orchestrator, which directs callers to other servers, then the services behind it."""
        for names in ((ORCHESTRATOR,), SERVICES):
            alive = [p for name in names if (p := self._processes.get(name)) and p.poll() is None]
            for process in alive:
                process.terminate()
            end_s = time.monotonic() + grace_s + _KILLED_AFTER_S
            for process in alive:
                try:
                    process.wait(max(0.0, end_s - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.close()
        for reader in self._readers:
            reader.join()

    def _next(self, lines: SimpleQueue[tuple[str, str]], end_s: float) -> tuple[str, str]:
        while True:
            try:
                return lines.get(timeout=_LOOK_S)
            except Empty:
                if (name := self.ended()) is not None:
                    raise ServiceEnded(f"{self.why(name)}; what it said is above") from None
                if time.monotonic() > end_s:
                    missing = ", ".join(sorted(self._processes.keys() - self.running.keys()))
                    raise ServiceEnded(
                        f"not ready within {self._wait_s:g} s: {missing}; --wait gives longer"
                    ) from None


def _read(name: str, process: subprocess.Popen[str], lines: SimpleQueue[tuple[str, str]]) -> None:
    """Passes the first line on, and discards later ones, so that the process never waits for a reader."""
    assert process.stdout is not None
    with process.stdout:
        first = process.stdout.readline()
        if first:
            lines.put((name, first))
        for _ in process.stdout:
            pass


def _await_healthy(service: Running, end_s: float) -> None:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    serving = health_pb2.HealthCheckResponse.SERVING
    with grpc.insecure_channel(service.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        while True:
            left_s = end_s - time.monotonic()
            try:
                answer = check(
                    health_pb2.HealthCheckRequest(), timeout=max(left_s, _LOOK_S), wait_for_ready=True
                )
                if answer.status == serving:
                    return
            except grpc.RpcError as error:
                if service.process.poll() is None and left_s <= 0:
                    raise ServiceEnded(f"{service.name} is not healthy: {error.details()}") from None
            if service.process.poll() is not None or left_s <= 0:
                raise ServiceEnded(
                    f"{service.name} at {service.address} did not become healthy; what it said is above"
                )
            time.sleep(_LOOK_S)
