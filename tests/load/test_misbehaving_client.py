"""benchmarks/load/attack.py against a real server of gRPC: its streams are what they should be."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

ROOT = Path(__file__).parents[2]
ANSWER = bytes(200_000)
SECONDS = 0.6

Attack = Callable[..., dict[str, Any]]


class Calls:
    """What a server saw."""

    def __init__(self) -> None:
        self.begun = 0
        self.messages: list[bytes] = []
        self.cancelled = threading.Semaphore(0)

    def unary(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        self.messages.append(message)
        context.add_callback(self.cancelled.release)
        return ANSWER

    def stream(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        self.begun += 1
        self.messages += messages
        return b""


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def attack(calls: Calls, tmp_path: Path) -> Iterator[Attack]:
    server = grpc.server(ThreadPoolExecutor(32))
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(calls.unary),
        "Stream": grpc.stream_unary_rpc_method_handler(calls.stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    def run(path: str, **given: Any) -> dict[str, Any]:
        plan = {
            "address": f"127.0.0.1:{port}",
            "path": path,
            "seconds": SECONDS,
            "streams": 10,
            "rate_hz": 1000.0,
            "connections": 2,
            "message": None,
            "end": False,
            "window": 65_535,
            "cancel_after_s": None,
            "priority": 0,
        } | given
        (tmp_path / "plan.json").write_text(json.dumps(plan))
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.load.attack", tmp_path / "plan.json"],
            cwd=ROOT,
            input="go\n",
            capture_output=True,
            text=True,
            check=True,
        )
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return told

    yield run
    server.stop(None).wait()


def test_streams_without_a_message_stay_open(attack: Attack, calls: Calls) -> None:
    told = attack("/t.T/Stream")
    assert (told["opened"], told["most_open"], told["ended"]) == (10, 10, 0)
    assert calls.begun == 10
    assert calls.messages == []


def test_answers_are_not_read(attack: Attack, calls: Calls) -> None:
    told = attack("/t.T/Unary", message=b"ask".hex(), end=True, window=0)
    assert (told["opened"], told["ended"]) == (10, 0)
    assert calls.messages == [b"ask"] * 10


def test_answers_that_are_read_end_and_streams_are_opened_again(attack: Attack, calls: Calls) -> None:
    told = attack("/t.T/Unary", message="", end=True, window=1 << 20, rate_hz=50.0)
    assert told["opened"] > 10
    assert told["ended"] > 0
    assert set(calls.messages) == {b""}


def test_streams_are_cancelled(attack: Attack, calls: Calls) -> None:
    told = attack("/t.T/Unary", message="", end=True, window=0, cancel_after_s=0.05, rate_hz=50.0)
    assert told["cancelled"] > 0
    assert calls.cancelled.acquire(timeout=5)


def test_no_other_machine_is_attacked(attack: Attack) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        attack("/t.T/Unary", address="192.0.2.1:50051")
    assert "load goes to loopback addresses alone" in failed.value.stderr
