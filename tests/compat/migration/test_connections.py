"""Connections that fall silent, and meshes of several addresses, with real sockets."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshfold.compat.migration.connections import _target
from meshfold.service.server import Server
from tests.compat.migration.conftest import ToldMesh, ask, request
from tests.compat.migration.other_mesh import OtherMesh
from tests.compat.migration.other_mesh import name as other_name
from tests.compat.migration.relay import Relay
from tests.compat.migration.test_proxy import nowhere
from tests.waiting import wait_until

__all__ = ["nowhere"]
Start = Callable[..., Server]
Code = grpc.StatusCode
# Seconds, so that a test notices silence soon.
KEEPALIVE: dict[str, Any] = {"keepalive_s": 0.3, "keepalive_timeout_s": 0.3, "streams_keepalive_s": 0.3}


@pytest.fixture
def relay(mesh: ToldMesh) -> Iterator[Relay]:
    relay = Relay(mesh.address)
    yield relay
    relay.close()


@pytest.fixture
def meshes() -> Iterator[list[ToldMesh]]:
    meshes = [ToldMesh() for _ in range(3)]
    yield meshes
    for mesh in meshes:
        mesh.stop()


def several(*meshes: ToldMesh) -> dict[str, Any]:
    return {"mesh": ",".join(mesh.address for mesh in meshes)}


def asked(meshes: list[ToldMesh]) -> list[int]:
    return [len(mesh.calls) for mesh in meshes]


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("127.0.0.1:5", "ipv4:127.0.0.1:5"),
        ("[::1]:5", "ipv6:[::1]:5"),
        ("localhost:5", "dns:///localhost:5"),
        ("mesh.svc.cluster.local:5", "dns:///mesh.svc.cluster.local:5"),
        ("dns:///localhost:5", "dns:///localhost:5"),
        ("dns:///127.0.0.1:5", "dns:///127.0.0.1:5"),
        ("unix:/tmp/mesh", "unix:/tmp/mesh"),
        ("dns:5", "dns:///dns:5"),
        ("unix:5", "unix:5"),
    ],
)
def test_addresses_are_told_in_grpcs_words(address: str, target: str) -> None:
    assert _target(address) == target


def test_a_connection_that_is_forgotten_is_noticed_and_replaced(
    start: Start, nowhere: Path, mesh: ToldMesh, relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server = start(nowhere, {"mesh": relay.address}, **KEEPALIVE)
    with grpc.insecure_channel(server.address) as channel:
        assert ask(channel, request()).code is Code.OK
        relay.forget()
        got = ask(channel, request(), timeout_s=20)
        assert (got.code, got.side) == (Code.UNAVAILABLE, "mesh")
        wait_until(lambda: ask(channel, request()).code is Code.OK)
    assert relay.connections == 2
    assert f"mesh connection made: address={relay.address} calls=modes" in caplog.text
    assert f"mesh connection lost: address={relay.address} calls=modes" in caplog.text
    assert f"mesh connection back: address={relay.address} calls=modes" in caplog.text


def test_a_silent_mesh_counts_as_down_and_the_model_answers(
    start: Start, store: Path, mesh: ToldMesh, relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server = start(store, {"mesh": relay.address}, fallback=True, **KEEPALIVE)
    with grpc.insecure_channel(server.address) as channel:
        assert ask(channel, request()).side == "mesh"
        relay.forget(later_too=True)
        got = ask(channel, request(), timeout_s=20)
        assert (got.side, got.trailing["meshfold-fallback"]) == ("model", "unavailable")
        for _ in range(20):
            assert ask(channel, request(), timeout_s=20).side == "model"
        assert "mesh breaker open: surface=shop" in caplog.text
        before_s = time.monotonic()
        assert ask(channel, request(), timeout_s=20).side == "model"
        assert time.monotonic() - before_s < 5
        relay.remember()
        wait_until(lambda: ask(channel, request()).side == "mesh")
    assert "mesh breaker half-open: surface=shop" in caplog.text
    assert "mesh breaker closed: surface=shop" in caplog.text


def test_a_mesh_that_is_slow_is_not_silent(start: Start, nowhere: Path, mesh: ToldMesh, relay: Relay) -> None:
    server = start(nowhere, {"mesh": relay.address}, **KEEPALIVE)
    with grpc.insecure_channel(server.address) as channel:
        got = ask(channel, request(), timeout_s=20, x_wait_s="1.5")
        assert (got.code, got.side) == (Code.OK, "mesh")
        assert ask(channel, request()).code is Code.OK
    assert relay.connections == 1


@pytest.fixture
def other() -> Iterator[OtherMesh]:
    other = OtherMesh()
    yield other
    other.stop()


@pytest.fixture
def other_relay(other: OtherMesh) -> Iterator[Relay]:
    relay = Relay(other.address)
    yield relay
    relay.close()


def is_answered(call: Any, timeout_s: float) -> bool:
    try:
        return bool(call(b"c", timeout=timeout_s) == b"one c")
    except grpc.RpcError:
        return False


def test_a_silent_connection_ends_calls_that_are_passed_on(
    start: Start, nowhere: Path, other_relay: Relay
) -> None:
    server = start(nowhere, {"mesh": other_relay.address}, **KEEPALIVE)
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(other_name("One"))
        assert is_answered(call, 10)
        other_relay.forget()
        with pytest.raises(grpc.RpcError) as caught:
            call(b"b", timeout=20)
        assert caught.value.code() is Code.UNAVAILABLE
        wait_until(lambda: is_answered(call, 10))


def test_later_calls_that_are_passed_on_leave_a_silent_connection_without_a_ping(
    start: Start, nowhere: Path, other: OtherMesh, other_relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    server = start(nowhere, {"mesh": other_relay.address}, **{**KEEPALIVE, "streams_keepalive_s": 310})
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(other_name("One"))
        assert is_answered(call, 10)
        for _ in range(2):
            # No ping that measures the bandwidth is under way any more.
            time.sleep(0.3)
            assert is_answered(call, 10)
            time.sleep(0.1)
            other_relay.forget()
            # One that waits for long is enough.
            assert not is_answered(call, 1.0)
            assert is_answered(call, 10)
    assert f"mesh connection silent: address={other_relay.address} calls=passed" in caplog.text


def test_calls_that_say_nothing_for_long_stay_on_their_connection(
    start: Start, nowhere: Path, other: OtherMesh
) -> None:
    server = start(nowhere, {"mesh": other.address}, **{**KEEPALIVE, "streams_keepalive_s": 310})
    with grpc.insecure_channel(server.address) as channel:
        quiet = (("x-quiet", "1"), ("x-wait-s", "0.8"))
        waiting = channel.stream_unary(other_name("Collect")).future(iter([b"a", b"b"]), metadata=quiet)
        wait_until(lambda: bool(other.calls))
        connections: Any = server._front._streams  # type: ignore[union-attr]
        wait_until(lambda: bool(connections._doubted))
        assert is_answered(channel.unary_unary(other_name("One")), 10)
        assert waiting.result(20) == b"a+b"
        # The connection that was left is closed with its last call.
        wait_until(lambda: not connections._doubted)
        assert is_answered(channel.unary_unary(other_name("One")), 10)


def test_calls_go_round_the_addresses(start: Start, nowhere: Path, meshes: list[ToldMesh]) -> None:
    server = start(nowhere, several(*meshes))
    wait_until(lambda: all(up for _, up, _ in server._front._connections.shown()))  # type: ignore[union-attr]
    with grpc.insecure_channel(server.address) as channel:
        for _ in range(30):
            assert ask(channel, request()).code is Code.OK
    assert asked(meshes) == [10, 10, 10]


def test_an_address_that_is_dead_from_the_start_costs_no_caller_anything(
    start: Start, nowhere: Path, meshes: list[ToldMesh]
) -> None:
    meshes[1].stop()
    server = start(nowhere, several(*meshes))
    with grpc.insecure_channel(server.address) as channel:
        assert Counter(ask(channel, request()).code for _ in range(30)) == {Code.OK: 30}
    assert meshes[1].calls == []
    meshes[1].start()


def test_an_address_that_dies_under_load_costs_no_caller_anything(
    start: Start, nowhere: Path, meshes: list[ToldMesh]
) -> None:
    server = start(nowhere, several(*meshes))
    with grpc.insecure_channel(server.address) as channel:
        futures = []
        call = channel.unary_unary("/mesh.v1.OrchestratorService/Retrieve")
        for n in range(60):
            futures.append(call.future(request(), timeout=10, metadata=(("x-wait-s", "0.1"),)))
            time.sleep(0.01)
            if n == 20:
                meshes[0].stop()
            if n == 40:
                meshes[0].start()
        assert [future.code() for future in futures] == [Code.OK] * 60
        before = asked(meshes)

        def is_met() -> bool:
            ask(channel, request())
            return len(meshes[0].calls) > before[0]

        wait_until(is_met)


def test_an_address_that_falls_silent_is_left_out(
    start: Start, nowhere: Path, meshes: list[ToldMesh]
) -> None:
    relay = Relay(meshes[0].address)
    server = start(nowhere, {"mesh": f"{relay.address},{meshes[1].address}"}, **KEEPALIVE)
    with grpc.insecure_channel(server.address) as channel:
        for _ in range(10):
            assert ask(channel, request()).code is Code.OK
        relay.forget(later_too=True)
        # Those that hang there are asked again at the other.
        assert Counter(ask(channel, request(), timeout_s=20).code for _ in range(20)) == {Code.OK: 20}
    relay.close()


def test_without_any_address_that_stands_calls_fail_at_once_and_come_back(
    start: Start, nowhere: Path, meshes: list[ToldMesh]
) -> None:
    for mesh in meshes:
        mesh.stop()
    server = start(nowhere, several(*meshes))
    with grpc.insecure_channel(server.address) as channel:
        got = ask(channel, request(), timeout_s=20)
        assert (got.code, got.side) == (Code.UNAVAILABLE, "mesh")
        meshes[2].start()
        wait_until(lambda: ask(channel, request()).code is Code.OK)
    for mesh in meshes[:2]:
        mesh.start()


@pytest.mark.parametrize("form", ["dns:///localhost:{port}", "localhost:{port}", "unix:{folder}/mesh"])
def test_other_forms_of_addresses(start: Start, nowhere: Path, tmp_path: Path, form: str) -> None:
    told = ToldMesh(f"unix:{tmp_path}/mesh" if form.startswith("unix") else "127.0.0.1:0")
    address = form.format(port=told.address.rpartition(":")[2], folder=tmp_path)
    server = start(nowhere, {"mesh": address})
    with grpc.insecure_channel(server.address) as channel:
        assert ask(channel, request()).code is Code.OK
        told.stop()
        assert ask(channel, request(), timeout_s=20).code is Code.UNAVAILABLE
        told.start()
        wait_until(lambda: ask(channel, request()).code is Code.OK)
    told.stop()
