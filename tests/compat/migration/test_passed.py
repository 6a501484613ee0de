"""Calls that the server does not know, through it to a real mesh."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshfold.commands.__main__ import ADAPTERS
from meshfold.compat.migration.front import Front
from meshfold.service.config import ServerConfig
from meshfold.service.migration import MigrationConfig
from meshfold.service.server import Server
from tests.compat.migration.conftest import MUCH_METADATA
from tests.compat.migration.other_mesh import OtherMesh, name
from tests.compat.migration.test_proxy import nowhere
from tests.service.raw_caller import RawCaller
from tests.waiting import wait_until

__all__ = ["nowhere"]
Start = Callable[..., Server]
Code = grpc.StatusCode
BY_THE_MESH = ("meshfold-answered-by", "mesh")


@pytest.fixture(scope="module")
def shared() -> Iterator[OtherMesh]:
    shared = OtherMesh()
    yield shared
    shared.stop()


@pytest.fixture
def other(shared: OtherMesh) -> OtherMesh:
    """Without the calls of tests before."""
    shared.calls = []
    return shared


@pytest.fixture(scope="module")
def proxy(shared: OtherMesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("proxy")
    config = ServerConfig(
        address="127.0.0.1:0",
        mesh=shared.address,
        store=folder / "nothing",
        migration=MigrationConfig(state=str(folder / "modes.json")),
    )
    proxy = Server(config, ADAPTERS, Front)
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.fixture
def channel(proxy: Server, other: OtherMesh) -> Iterator[grpc.Channel]:
    options = [("grpc.use_local_subchannel_pool", 1), *MUCH_METADATA]
    with grpc.insecure_channel(proxy.address, options) as channel:
        yield channel


def status_of(call: Any) -> tuple[grpc.StatusCode, str]:
    return call.code(), call.details()


def failed(call: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


class Spoken:
    """What a caller says, when a test says so."""

    def __init__(self) -> None:
        self._words: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[bytes]:
        while (word := self._words.get()) is not None:
            yield word

    def say(self, word: bytes) -> None:
        self._words.put(word)

    def end(self) -> None:
        self._words.put(None)


def test_one_message_each_way_passes_with_metadata(channel: grpc.Channel, other: OtherMesh) -> None:
    answer, call = channel.unary_unary(name("One")).with_call(
        b"\xff no message of ours", timeout=9, metadata=(("authorization", "Bearer x"), ("x-id-bin", b"\x80"))
    )
    assert answer == b"one \xff no message of ours"
    assert ("x-initial", "from the mesh") in tuple(call.initial_metadata())
    assert set(call.trailing_metadata()) == {("x-trailing", "also"), BY_THE_MESH}
    (seen,) = other.calls
    assert (seen.metadata["authorization"], seen.metadata["x-id-bin"]) == ("Bearer x", b"\x80")
    assert seen.left_s is not None
    assert 8 < seen.left_s < 9.1


def test_a_call_without_a_deadline_has_none_at_the_mesh(channel: grpc.Channel, other: OtherMesh) -> None:
    channel.unary_unary(name("One"))(b"")
    assert other.calls[0].left_s is None


def test_answers_in_many_messages_pass(channel: grpc.Channel) -> None:
    call = channel.unary_stream(name("Count"))(b"500", timeout=20)
    assert sum(map(len, call)) == 500
    assert status_of(call)[0] is Code.OK
    assert BY_THE_MESH in call.trailing_metadata()


def test_requests_in_many_messages_pass(channel: grpc.Channel) -> None:
    words = [b"%d" % n for n in range(300)]
    answer, call = channel.stream_unary(name("Collect")).with_call(iter(words), timeout=20)
    assert answer == b"+".join(words)
    assert BY_THE_MESH in call.trailing_metadata()


def test_a_conversation_passes_word_by_word(channel: grpc.Channel, other: OtherMesh) -> None:
    spoken = Spoken()
    call = channel.stream_stream(name("Talk"))(iter(spoken), timeout=20)
    assert ("x-initial", "from the mesh") in tuple(call.initial_metadata())
    for word in (b"a", b"", b"c" * 100_000):
        spoken.say(word)
        assert next(call) == b"you said " + word
    spoken.end()
    assert list(call) == []
    assert status_of(call)[0] is Code.OK


def test_a_mesh_that_says_nothing_at_first_is_still_heard(channel: grpc.Channel) -> None:
    """Without initial metadata of its own, headers come all the same."""
    spoken = Spoken()
    call = channel.stream_stream(name("Talk"))(iter(spoken), timeout=20, metadata=(("x-quiet", "1"),))
    spoken.say(b"a")
    assert next(call) == b"you said a"
    spoken.end()
    assert list(call) == []


def test_a_mesh_that_has_enough_ends_the_call(channel: grpc.Channel, other: OtherMesh) -> None:
    spoken = Spoken()
    spoken.say(b"first")
    answer, call = channel.stream_unary(name("Early")).with_call(iter(spoken), timeout=20)
    assert (answer, call.code()) == (b"enough", Code.OK)
    spoken.end()


def test_a_status_passes_with_details_after_messages(channel: grpc.Channel) -> None:
    call = channel.stream_stream(name("Fail"))(iter(()), timeout=20)
    assert [next(call), next(call)] == [b"1", b"2"]
    failed(lambda: next(call))
    assert status_of(call) == (Code.DATA_LOSS, "a shelf is gone: Bücher")
    trailing = dict(call.trailing_metadata())
    assert trailing["grpc-status-details-bin"] == b"\x08\x09\xff"
    assert trailing["meshfold-answered-by"] == "mesh"


def test_methods_that_the_mesh_does_not_know_are_its_word(channel: grpc.Channel) -> None:
    for method in (name("Nothing"), "/no.such/Service", "/mesh.v1.OrchestratorService/Other"):
        error: Any = failed(lambda method=method: channel.unary_unary(method)(b"", timeout=10))
        assert error.code() is Code.UNIMPLEMENTED
        assert BY_THE_MESH in error.trailing_metadata()


def test_services_of_this_server_are_not_passed_on(channel: grpc.Channel, other: OtherMesh) -> None:
    for method in ("/meshfold.v1.MigrationService/Kill", "/meshfold.v1.RetrievalService/Nothing"):
        error: Any = failed(lambda method=method: channel.unary_unary(method)(b"", timeout=10))
        assert error.code() is Code.UNIMPLEMENTED
        assert BY_THE_MESH not in error.trailing_metadata()
    health = health_pb2_grpc.HealthStub(channel)
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == 1
    assert not other.calls


def test_a_caller_that_leaves_ends_the_call_at_the_mesh(channel: grpc.Channel, other: OtherMesh) -> None:
    calls = [channel.stream_stream(name("Wait"))(iter(Spoken())) for _ in range(3)]
    wait_until(lambda: len(other.calls) == 3)
    assert not other.calls[0].ended.is_set()
    for call in calls:
        call.cancel()
    assert all(seen.ended.wait(10) for seen in other.calls)


def test_a_deadline_ends_both_calls(channel: grpc.Channel, other: OtherMesh) -> None:
    call = channel.stream_stream(name("Wait"))(iter(Spoken()), timeout=0.3)
    failed(lambda: next(call))
    assert call.code() is Code.DEADLINE_EXCEEDED
    assert other.calls[0].ended.wait(10)


def test_a_caller_that_does_not_read_holds_the_mesh_back(channel: grpc.Channel, other: OtherMesh) -> None:
    call = channel.unary_stream(name("Count"))(b"2000", metadata=(("x-bytes", "100000"),))
    next(call)
    wait_until(lambda: other.calls[0].sent > 1)
    before = -1
    while before != (before := other.calls[0].sent):
        time.sleep(0.3)
    assert before < 1000
    assert sum(1 for _ in call) == 1999


def test_a_mesh_that_does_not_read_holds_the_caller_back(channel: grpc.Channel, other: OtherMesh) -> None:
    taken = 0

    def words() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(2000):
            taken += 1
            yield b"x" * 100_000

    call = channel.stream_stream(name("Wait"))(words())
    wait_until(lambda: bool(other.calls))
    before = -1
    while before != (before := taken):
        time.sleep(0.3)
    assert before < 1000
    call.cancel()


def test_long_metadata_pass_both_ways(channel: grpc.Channel, other: OtherMesh) -> None:
    channel.unary_unary(name("One"))(b"", metadata=(("x-long", "a" * 300_000),), timeout=10)
    assert len(other.calls[0].metadata["x-long"]) == 300_000


def test_compressed_messages_pass(proxy: Server, other: OtherMesh) -> None:
    with grpc.insecure_channel(proxy.address, compression=grpc.Compression.Gzip) as channel:
        words = [b"a" * 50_000] * 3
        assert channel.stream_unary(name("Collect"))(iter(words), timeout=10) == b"+".join(words)


def test_long_answers_pass(proxy: Server, other: OtherMesh) -> None:
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(proxy.address, options) as channel:
        many = (("x-bytes", str(20 << 20)),)
        assert [len(answer) for answer in channel.unary_stream(name("Count"))(b"2", metadata=many)] == [
            20 << 20
        ] * 2


def test_many_calls_pass_at_once(channel: grpc.Channel) -> None:
    call = channel.unary_unary(name("One"))
    calls = [call.future(b"%d" % n, timeout=30) for n in range(400)]
    assert [each.result() for each in calls] == [b"one %d" % n for n in range(400)]


def test_an_address_that_is_gone_costs_no_call_that_is_passed_on(
    start: Start, nowhere: Path, other: OtherMesh
) -> None:
    gone = OtherMesh()
    gone.stop()
    server = start(nowhere, {"mesh": f"{gone.address},{other.address}"})
    with grpc.insecure_channel(server.address) as channel:
        assert [channel.unary_unary(name("One"))(b"", timeout=10) for _ in range(10)] == [b"one "] * 10


def test_strange_names_and_text_that_grpc_cannot_send_end_with_a_status(
    proxy: Server, channel: grpc.Channel, other: OtherMesh, caplog: pytest.LogCaptureFixture
) -> None:
    with RawCaller(proxy.address) as raw:
        for method in (
            "/",
            "//",
            "nothing",
            "/a",
            "/a/b/c/d",
            "/a b/c",
            "/\xe9/x",
            f"/{'a' * 60_000}/x",
            "/%2F/%",
        ):
            raw.call(method, b"")
        for value in ("\xff\xfe", "a\x7fb"):
            raw.call(name("One"), b"", headers={"x-text": value})
        wait_until(lambda: len(raw.ended) == 11)
    assert not other.calls
    assert "Traceback" not in caplog.text
    assert channel.unary_unary(name("One"))(b"next", timeout=10) == b"one next"


def test_calls_that_are_passed_on_are_bounded(start: Start, nowhere: Path, other: OtherMesh) -> None:
    server = start(nowhere, {"mesh": other.address}, passed_calls=8)
    options = [("grpc.use_local_subchannel_pool", 1)]
    with (
        grpc.insecure_channel(server.address, options) as one,
        grpc.insecure_channel(server.address, options) as two,
    ):
        calls = [one.stream_stream(name("Wait"))(iter(Spoken())) for _ in range(10)]
        wait_until(lambda: sum(call.done() for call in calls) == 6)
        refused = next(call for call in calls if call.done())
        assert refused.code() is Code.RESOURCE_EXHAUSTED
        assert "calls are passed on already" in refused.details()
        assert two.unary_unary(name("One"))(b"", timeout=10) == b"one "
        for call in calls:
            call.cancel()


def test_a_call_without_messages_ends_after_a_while(start: Start, nowhere: Path, other: OtherMesh) -> None:
    server = start(nowhere, {"mesh": other.address}, passed_idle_s=0.3)
    with grpc.insecure_channel(server.address) as channel:
        call = channel.stream_stream(name("Wait"))(iter(Spoken()))
        failed(lambda: next(call))
        assert status_of(call) == (Code.UNAVAILABLE, "no message came or went for 0.3 s; call again")
        assert other.calls[0].ended.wait(10)
        # Messages put it off.
        words = (time.sleep(0.1) or b"%d" % n for n in range(8))  # type: ignore[func-returns-value]
        assert channel.stream_unary(name("Collect"))(words, timeout=20) == b"0+1+2+3+4+5+6+7"


def test_messages_and_answers_beyond_the_bounds_are_refused(
    start: Start, nowhere: Path, other: OtherMesh
) -> None:
    server = start(nowhere, {"mesh": other.address, "unread_bytes": 1 << 20})
    with grpc.insecure_channel(server.address) as channel:
        error: Any = failed(lambda: channel.unary_unary(name("One"))(b"x" * (5 << 20), timeout=10))
        assert error.code() is Code.RESOURCE_EXHAUSTED
        call = channel.unary_stream(name("Count"))(b"1", metadata=(("x-bytes", str(2 << 20)),), timeout=10)
        failed(lambda: next(call))
        assert call.code() is Code.RESOURCE_EXHAUSTED
        assert "the answer has 2097152 bytes" in call.details()
        assert channel.unary_unary(name("One"))(b"next", timeout=10) == b"one next"


def test_a_server_that_stops_lets_calls_end(start: Start, nowhere: Path, other: OtherMesh) -> None:
    server = start(nowhere, {"mesh": other.address})
    spoken = Spoken()
    with grpc.insecure_channel(server.address) as channel:
        call = channel.stream_stream(name("Talk"))(iter(spoken), timeout=20)
        spoken.say(b"a")
        assert next(call) == b"you said a"
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        wait_until(lambda: server._listener.intake.is_stopping)
        spoken.say(b"b")
        assert next(call) == b"you said b"
        spoken.end()
        assert list(call) == []
        stopping.join(10)
        assert not stopping.is_alive()


def test_without_a_mesh_nothing_is_passed_on(store: Path) -> None:
    server = Server(ServerConfig(address="127.0.0.1:0", store=store), ADAPTERS)
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        error: Any = failed(lambda: channel.unary_unary(name("One"))(b"", timeout=10))
        assert error.code() is Code.UNIMPLEMENTED
    server.stop()
