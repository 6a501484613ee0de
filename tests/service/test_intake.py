from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from meshfold.model.errors import InvalidQuery, Overloaded, Unavailable
from meshfold.service import intake as module
from meshfold.service import ports
from meshfold.service.call import Answer, Call
from meshfold.service.event_loop import EventLoop
from meshfold.service.intake import PUSHBACK, Intake, IntakeLimits, Operators, split_method
from meshfold.service.ports import PortLimits, listening
from tests.service.raw_caller import RawCaller
from tests.waiting import wait_until

ECHO, FAIL, LARGE = "/test.Service/Echo", "/test.Service/Fail", "/test.Service/Large"
LARGE_BYTES = 10_000
CODES = grpc.StatusCode


class Listening:
    """A server of an intake: what is echoed, what fails with an error, and what is answered by 10,000 bytes."""

    def __init__(self, unread_bytes: int = 1 << 20, timeout_s: float = 10.0) -> None:
        self.loop = EventLoop("test-loop")
        self.intake = Intake(IntakeLimits(timeout_s, 1 << 20, unread_bytes))
        self.calls: list[Call] = []
        self.error: Exception = RuntimeError("broken")
        self._server: Any = None
        self.address = ""

    def start(self, **more: Answer) -> None:
        answers: dict[str, Answer] = {ECHO: self._echo, FAIL: self._fail, LARGE: self._large}
        answers |= {f"/test.Service/{name}": answer for name, answer in more.items()}
        self.loop.run(self._start(answers))

    async def _start(self, answers: dict[str, Answer]) -> None:
        handlers = self.intake.unary(answers)
        self._server, self.address = listening("127.0.0.1:0", "--address", handlers, PortLimits(1 << 20))
        await self._server.start()

    async def _echo(self, call: Call) -> bytes:
        self.calls.append(call)
        call.initial = (("x-initial", "1"),)
        call.trailing = (("x-trailing", "2"),)
        return call.message

    async def _fail(self, call: Call) -> bytes:
        call.trailing = (("x-trailing", "2"),)
        raise self.error

    async def _large(self, call: Call) -> bytes:
        return b"x" * LARGE_BYTES

    def stop(self) -> None:
        if self._server is not None:
            self.loop.run(self._server.stop(0))
        self.loop.stop()


@pytest.fixture
def server() -> Iterator[Listening]:
    server = Listening()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def channel(server: Listening) -> Iterator[grpc.Channel]:
    with connection(server.address) as channel:
        yield channel


def connection(address: str) -> grpc.Channel:
    """A channel that shares no connection with another."""
    return grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])


def refusal(channel: grpc.Channel, method: str, timeout_s: float = 10) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(method)(b"message", timeout=timeout_s)
    return caught.value


class Bodyless:
    """Calls whose message never comes."""

    def __init__(self, channel: grpc.Channel, method: str, count: int) -> None:
        self._over = threading.Event()
        self.calls = [channel.stream_unary(method).future(self._never()) for _ in range(count)]

    def _never(self) -> Iterator[bytes]:
        self._over.wait(20)
        yield from ()

    def done(self) -> list[Any]:
        return [call for call in self.calls if call.done()]

    def end(self) -> None:
        self._over.set()
        for call in self.calls:
            call.cancel()


def test_an_answer_gets_the_call_and_its_metadata_go_back(server: Listening, channel: grpc.Channel) -> None:
    answer, call = channel.unary_unary(ECHO).with_call(b"\xff bytes", timeout=5, metadata=(("x-own", "0"),))
    assert answer == b"\xff bytes"
    assert ("x-initial", "1") in tuple(call.initial_metadata())
    assert ("x-trailing", "2") in tuple(call.trailing_metadata())
    (received,) = server.calls
    assert received.message == b"\xff bytes"
    assert ("x-own", "0") in received.metadata
    assert received.peer.startswith("ipv4:127.0.0.1:")
    assert received.has_deadline
    assert received.left_s() < 5
    assert not received.is_shadow


def test_a_call_without_a_deadline_has_the_servers(server: Listening, channel: grpc.Channel) -> None:
    channel.unary_unary(ECHO)(b"")
    assert not server.calls[0].has_deadline
    assert 5 < server.calls[0].left_s() <= 10


@pytest.mark.parametrize(
    ("error", "code", "pushback"),
    [
        (Overloaded("full", 0.25), CODES.RESOURCE_EXHAUSTED, "250"),
        (Overloaded("full", 0.0001), CODES.RESOURCE_EXHAUSTED, "1"),
        (Overloaded("full"), CODES.RESOURCE_EXHAUSTED, None),
        (Unavailable("down", 2.0), CODES.UNAVAILABLE, "2000"),
        (InvalidQuery("path", "is wrong"), CODES.INVALID_ARGUMENT, None),
        (RuntimeError("broken"), CODES.INTERNAL, None),
    ],
)
def test_an_error_is_a_status_with_a_hint_when_to_come_back(
    server: Listening, channel: grpc.Channel, error: Exception, code: grpc.StatusCode, pushback: str | None
) -> None:
    server.error = error
    caught: Any = refusal(channel, FAIL)
    assert caught.code() is code
    trailing = dict(caught.trailing_metadata())
    assert trailing["x-trailing"] == "2"
    assert trailing.get(PUSHBACK) == pushback


def test_a_call_that_ends_without_a_message_is_the_callers_fault(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(ECHO)(iter(()), timeout=10)
    assert caught.value.code() is CODES.INVALID_ARGUMENT
    assert caught.value.details() == "request: the call ended without a message"
    assert channel.unary_unary(ECHO)(b"next") == b"next"


def test_a_call_whose_message_does_not_come_is_ended(
    server: Listening, channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_READ_S", 0.1)
    bodyless = Bodyless(channel, ECHO, 5)
    wait_until(lambda: len(bodyless.done()) == 5)
    assert {(call.code(), call.details()) for call in bodyless.calls} == {
        (CODES.DEADLINE_EXCEEDED, "no message came within 0.1 s")
    }
    bodyless.end()
    assert not server.calls
    assert channel.unary_unary(ECHO)(b"next") == b"next"


def test_calls_whose_message_does_not_come_are_bounded_by_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_UNREAD_REQUESTS", 8)
    server = Listening()
    server.start()
    with connection(server.address) as one, connection(server.address) as other:
        assert one.unary_unary(ECHO)(b"") == b""
        bodyless = Bodyless(one, ECHO, 10)
        # The connection has at most as many as it leaves to others.
        wait_until(lambda: len(bodyless.done()) == 6)
        assert {call.code() for call in bodyless.done()} == {CODES.RESOURCE_EXHAUSTED}
        assert "calls wait for their message already" in bodyless.done()[0].details()
        for n in range(10):
            assert other.unary_unary(ECHO)(b"%d" % n, timeout=10) == b"%d" % n
        bodyless.end()
        # They are gone with their calls.
        wait_until(lambda: server.intake._requests.used == 0)
        assert one.unary_unary(ECHO)(b"next") == b"next"
    server.stop()


def test_messages_that_never_come_on_raw_connections_cost_no_one_else(server: Listening) -> None:
    with RawCaller(server.address) as raw:
        for _ in range(200):
            raw.call(ECHO, None)
        wait_until(lambda: server.intake._requests.used == 200)
        with connection(server.address) as channel:
            assert channel.unary_unary(ECHO)(b"next", timeout=10) == b"next"
    # A connection that is lost takes its calls along.
    wait_until(lambda: server.intake._requests.used == 0)


def test_answers_that_nobody_reads_are_bounded() -> None:
    server = Listening(unread_bytes=10 * LARGE_BYTES)
    server.start()
    with RawCaller(server.address) as raw:
        for _ in range(40):
            raw.call(LARGE, b"")
        # Half of what may lie there is one connection's; the rest is refused, which needs no window.
        wait_until(lambda: len(raw.ended) == 35)
        assert server.intake.unread_bytes() == 5 * LARGE_BYTES
        with connection(server.address) as channel:
            for _ in range(20):
                assert len(channel.unary_unary(LARGE)(b"", timeout=10)) == LARGE_BYTES
            wait_until(lambda: server.intake.unread_bytes() == 5 * LARGE_BYTES)
            # Others that read nothing leave something as well.
            with RawCaller(server.address) as second:
                for _ in range(10):
                    second.call(LARGE, b"")
                wait_until(lambda: len(second.ended) == 8)
                assert server.intake.unread_bytes() == 7 * LARGE_BYTES
                assert len(channel.unary_unary(LARGE)(b"", timeout=10)) == LARGE_BYTES
        assert len(raw.ended) == 35
    wait_until(lambda: server.intake.unread_bytes() == 0)
    server.stop()


def test_an_answer_beyond_what_may_lie_there_is_refused_by_name() -> None:
    server = Listening(unread_bytes=LARGE_BYTES - 1)
    server.start()
    with connection(server.address) as channel:
        caught: Any = refusal(channel, LARGE)
        assert caught.code() is CODES.RESOURCE_EXHAUSTED
        assert "callers may leave" in caught.details()
        assert channel.unary_unary(ECHO)(b"small") == b"small"
    wait_until(lambda: server.intake.unread_bytes() == 0)
    server.stop()


def test_an_unread_answer_is_dropped_at_its_deadline(server: Listening) -> None:
    with RawCaller(server.address) as raw:
        for _ in range(3):
            raw.call(LARGE, b"", timeout="300m")
        wait_until(lambda: server.intake.unread_bytes() == 3 * LARGE_BYTES)
        wait_until(lambda: server.intake.unread_bytes() == 0)


def test_a_caller_that_leaves_cancels_its_answer() -> None:
    ended: list[str] = []

    async def slow(call: Call) -> bytes:
        ended.append("begun")
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return b""

    server = Listening()
    server.start(Slow=slow)
    with connection(server.address) as channel:
        call = channel.unary_unary("/test.Service/Slow").future(b"")
        wait_until(lambda: ended == ["begun"])
        call.cancel()
        wait_until(lambda: ended == ["begun", "cancelled"])
        with pytest.raises(grpc.RpcError):
            channel.unary_unary("/test.Service/Slow")(b"", timeout=0.1)
        wait_until(lambda: ended == ["begun", "cancelled"] * 2)
    server.stop()


def test_a_server_that_stops_sends_callers_elsewhere(server: Listening, channel: grpc.Channel) -> None:
    server.intake.is_stopping = True
    caught: Any = refusal(channel, ECHO)
    assert (caught.code(), caught.details()) == (CODES.UNAVAILABLE, "the server is stopping; ask another")
    assert not server.calls


@pytest.mark.parametrize(("least_s", "is_ended"), [(0.01, False), (300, True)])
def test_callers_may_ping_while_they_are_idle(
    monkeypatch: pytest.MonkeyPatch, least_s: float, is_ended: bool
) -> None:
    monkeypatch.setattr(ports, "_PING_S", least_s)
    server = Listening()
    server.start()
    with RawCaller(server.address) as raw:
        for place in range(8):
            raw.ping()
            time.sleep(0.03)
            if not is_ended:
                wait_until(lambda place=place: raw.pongs == place + 1)  # type: ignore[misc]
        wait_until(lambda: raw.is_sent_away == is_ended)
    server.stop()


def test_a_method_that_is_not_there_is_unimplemented(channel: grpc.Channel) -> None:
    caught: Any = refusal(channel, "/test.Service/Nothing")
    assert caught.code() is CODES.UNIMPLEMENTED


def test_methods_have_a_service_and_a_name() -> None:
    assert split_method(ECHO) == ("test.Service", "Echo")


def test_operators_operations_run_beside_the_loop_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_OPERATIONS", 4)
    gate = threading.Event()
    threads: list[str] = []

    def write(message: bytes, context: Any) -> bytes:
        threads.append(threading.current_thread().name)
        assert gate.wait(10)
        return b"written " + message

    def refuse(message: bytes, context: Any) -> bytes:
        raise InvalidQuery("mode", "unknown")

    operators = Operators()
    server = Listening()
    answers = operators.answers({"Write": write, "Refuse": refuse})
    server.start(**answers)
    with connection(server.address) as channel:
        writing = [channel.unary_unary("/test.Service/Write").future(b"%d" % n) for n in range(2)]
        wait_until(lambda: len(threads) == 2)
        # The loop goes on; one operation leaves places to others.
        assert channel.unary_unary(ECHO)(b"still") == b"still"
        caught: Any = refusal(channel, "/test.Service/Write")
        assert (caught.code(), "operations wait already" in caught.details()) == (
            CODES.RESOURCE_EXHAUSTED,
            True,
        )
        gate.set()
        assert [call.result(10) for call in writing] == [b"written 0", b"written 1"]
        caught = refusal(channel, "/test.Service/Refuse")
        assert (caught.code(), caught.details()) == (CODES.INVALID_ARGUMENT, "mode: unknown")
    assert all(name.startswith("meshfold-operator") for name in threads)
    operators.stop()
    server.stop()
