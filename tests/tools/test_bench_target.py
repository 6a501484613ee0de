"""Calls at a rate and in closed loops, to a server whose answers and delays are known."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshfold.model.errors import Unavailable
from meshfold.tools.bench_calls import write_messages
from meshfold.tools.bench_process import ProcessFailed
from meshfold.tools.bench_target import Target

METHOD = "/echo.Echo/Call"


class Echo:
    """Answers with what came twice; refuses `no`. most: calls at once, so far."""

    def __init__(self) -> None:
        self.delay_s, self.under_way, self.most = 0.0, 0, 0
        self._lock = threading.Lock()

    def answer(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        with self._lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        time.sleep(self.delay_s)
        with self._lock:
            self.under_way -= 1
        if message == b"no":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")
        return message * 2


@pytest.fixture
def echo() -> Iterator[tuple[Echo, str]]:
    echo = Echo()
    handler = grpc.unary_unary_rpc_method_handler(echo.answer)
    handlers = [grpc.method_handlers_generic_handler("echo.Echo", {"Call": handler})]
    server = grpc.server(ThreadPoolExecutor(16), handlers=handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield echo, f"127.0.0.1:{port}"
    server.stop(None).wait()


def target(address: str, folder: Path, *messages: bytes, **more: Any) -> Target:
    return Target(address, write_messages(folder / "messages", messages), 20_000.0, METHOD, **more)


def test_callers_of_a_closed_loop_wait_for_their_answers(echo: tuple[Echo, str], tmp_path: Path) -> None:
    server, address = echo
    server.delay_s = 0.05
    loop = target(address, tmp_path, b"four").loop(3, 0.5)
    assert server.most == 3
    assert loop.calls >= 3
    assert loop.failed == 0
    assert loop.p50_ms >= 50
    assert loop.answer_bytes == 8
    assert loop.rate_hz <= 3 / 0.05


def test_a_caller_who_was_refused_waits(echo: tuple[Echo, str], tmp_path: Path) -> None:
    _, address = echo
    loop = target(address, tmp_path, b"no").loop(2, 0.5)
    assert (loop.answered, loop.rate_hz) == (0, 0.0)
    assert 2 <= loop.failed <= 2 * 0.5 / 0.05 + 2


def test_calls_at_a_rate_do_not_wait_and_failures_are_late(echo: tuple[Echo, str], tmp_path: Path) -> None:
    server, address = echo
    server.delay_s = 0.2
    entered: list[str] = []

    @contextmanager
    def watched() -> Iterator[None]:
        entered.append("in")
        yield
        entered.append("out")

    window = target(address, tmp_path, b"yes", b"no", watched=watched).window(60.0, 0.5)
    assert server.most > 3
    assert abs(window.failed - window.calls / 2) <= 1
    assert window.late == window.failed
    assert not window.kept
    assert entered == ["in", "out"]


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 does not answer /echo\.Echo/Call: UNAVAILABLE"):
        target("127.0.0.1:1", tmp_path, b"yes").check()


def test_load_goes_to_other_machines_only_where_it_is_asked_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ProcessFailed, match="bench_generator failed"):
        target("192.0.2.1:50051", tmp_path, b"yes").window(10.0, 0.1)
    assert "load goes to loopback addresses alone" in capfd.readouterr().err
