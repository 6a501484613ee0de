"""Processes that are killed and started again, and callers who go on asking meanwhile."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from benchmarks.load.server import free_addresses
from benchmarks.redis_process import redis_command
from benchmarks.waiting import wait_until
from meshfold.protos.mesh.v1 import orchestrator_pb2
from meshfold.tools.bench_calls import RETRIEVE

CALLERS = 2
READY_S, TIMEOUT_S, PATIENCE_S = 120.0, 20.0, 120.0
# A busy machine makes answers late, and no service refuses a call for it.
PATIENT = {"MESHFOLD_QUEUE_S": "30"}


class Process:
    """A command that is killed, and started again."""

    def __init__(self, arguments: Sequence[str | Path], log: Path, ready: str = "") -> None:
        """ready: in the line that it prints when it is."""
        self._arguments = arguments
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
        wait_until(
            lambda: any(self._ready in line for line in self.said),
            f"a process does not start; see {self._log}",
            READY_S,
        )

    def _start(self) -> None:
        self.said = []
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._arguments, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **PATIENT}
            )
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
    """Threads that send one request after the other, and try again while no server listens."""

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


class Redis(Process):
    """url: of the place that states are kept in."""

    def __init__(self, url: str, arguments: Sequence[str | Path], log: Path) -> None:
        self.url = url
        super().__init__(arguments, log, "Ready to accept connections")


def redis_in(work: Path) -> Redis:
    """A Redis that writes each change to disk before its answer."""
    (work / "redis").mkdir()
    port = free_addresses(1)[0].rpartition(":")[2]
    words = redis_command(work / "redis", "--port", port, "--appendonly", "yes", "--appendfsync", "always")
    redis = Redis(f"redis://127.0.0.1:{port}/0/kills", words, work / "redis.log")
    redis.wait_ready()
    return redis
