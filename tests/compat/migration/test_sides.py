from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import grpc
import pytest

from meshfold.compat.mesh_v1.retrieve import METHOD
from meshfold.compat.migration.breaker import Breaker
from meshfold.compat.migration.connections import Connections, ConnectionSettings
from meshfold.compat.migration.sides import (
    ANSWERED_BY,
    FALLBACK,
    SHADOW,
    Mesh,
    Model,
    Request,
    passed_back,
    passed_on,
)
from meshfold.model.errors import Overloaded
from meshfold.service.call import Call
from meshfold.service.errors import code_of
from meshfold.service.event_loop import EventLoop
from meshfold.service.front import Reply, Side
from meshfold.service.migration import MigrationConfig
from tests.compat.migration.conftest import ToldMesh


@pytest.mark.parametrize("passed", [passed_on, passed_back])
def test_what_belongs_to_a_connection_is_not_passed(passed: object) -> None:
    assert callable(passed)
    kept = (
        ("authorization", "x"),
        ("traceparent", "00-1"),
        ("x-bin", b"\x00"),
        ("x-twice", "1"),
        ("x-twice", "2"),
    )
    dropped = (
        ("user-agent", "some"),
        ("te", "trailers"),
        ("grpc-timeout", "1S"),
        ("grpc-accept-encoding", "gzip"),
        ("content-type", "application/grpc"),
        (":authority", "mesh"),
        ("connection", "close"),
    )
    assert passed((*kept, *dropped)) == kept


def test_the_details_of_a_status_come_back() -> None:
    details = (("grpc-status-details-bin", b"\x08"), ("grpc-retry-pushback-ms", "7"))
    assert passed_back(details) == details
    assert passed_on(details) == ()
    assert passed_back(None) == ()


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop("test-loop")
    yield loop
    loop.stop()


@pytest.fixture
def side(loop: EventLoop, mesh: ToldMesh) -> Iterator[Mesh]:
    breaker = Breaker(MigrationConfig(mesh_timeout_s=20.0, mesh_waiting=4, fallback=True))
    connections = Connections(
        ConnectionSettings((mesh.address,), grpc.Compression.NoCompression, 3, 4), "test"
    )

    async def connect() -> None:
        connections.open()

    loop.run(connect())
    yield Mesh(connections, breaker)
    loop.run(connections.close())


def asked(within_s: float, **metadata: str | bytes) -> Request:
    pairs = tuple((name.replace("_", "-"), value) for name, value in metadata.items())
    return Request(METHOD, b"message", "shop", pairs, time.monotonic() + within_s)


def test_a_mesh_gives_bytes_and_its_metadata(loop: EventLoop, side: Mesh, mesh: ToldMesh) -> None:
    reply = loop.run(side.ask(asked(5)))
    assert reply.message == b"mesh message"
    assert ("x-initial", "from the mesh") in reply.initial
    assert reply.trailing == (("x-trailing", "also"),)


def test_a_mesh_has_the_shorter_of_two_times(loop: EventLoop, side: Mesh, mesh: ToldMesh) -> None:
    for within_s in (5, 100):
        loop.run(side.ask(asked(within_s)))
    assert 4 < mesh.calls[0].left_s < 5.1
    assert 19 < mesh.calls[1].left_s < 20.1


def test_a_meshs_status_is_raised_and_a_deadline_ends_its_call(
    loop: EventLoop, side: Mesh, mesh: ToldMesh
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        loop.run(side.ask(asked(5, x_code="NOT_FOUND", x_details_bin=b"")))
    assert code_of(caught.value) is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as caught:
        loop.run(side.ask(asked(0.1, x_wait_s="20")))
    assert code_of(caught.value) is grpc.StatusCode.DEADLINE_EXCEEDED
    assert mesh.calls[1].ended.wait(10)


def test_calls_that_a_breaker_refuses_do_not_reach_the_mesh(
    loop: EventLoop, side: Mesh, mesh: ToldMesh
) -> None:
    async def two_wait() -> None:
        waiting = [asyncio.create_task(side.ask(asked(20, x_wait_s="20"))) for _ in range(2)]
        while len(mesh.calls) < 2:
            await asyncio.sleep(0.005)
        with pytest.raises(Overloaded, match="2 calls wait for the mesh already"):
            await side.ask(asked(5))
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    loop.run(two_wait())
    assert len(mesh.calls) == 2
    # Who leaves ends the calls at the mesh, and makes room.
    assert all(call.ended.wait(10) for call in mesh.calls)
    assert loop.run(side.ask(asked(5))).message == b"mesh message"


def test_a_model_is_told_its_deadline_and_whether_anyone_waits(loop: EventLoop) -> None:
    told: list[tuple[bytes, float, bool]] = []

    async def answer(call: Call) -> bytes:
        told.append((call.message, call.deadline_s, call.is_shadow))
        return b"answer"

    model = Model({METHOD: answer})
    for is_shadow in (False, True):
        request = Request(METHOD, b"message", "shop", (("x", "1"),), 7.0, is_shadow)
        assert loop.run(model.ask(request)) == Reply(b"answer")
    assert told == [(b"message", 7.0, False), (b"message", 7.0, True)]


def test_what_a_proxy_says_of_its_own_is_not_passed_on() -> None:
    own = ((SHADOW, "1"), (ANSWERED_BY, "model"), (FALLBACK, "ok"))
    assert passed_on((*own, ("x", "1"))) == (("x", "1"),)


def test_sides_have_an_other() -> None:
    assert [side.other for side in Side] == [Side.MODEL, Side.MESH]
