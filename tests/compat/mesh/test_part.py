from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor

import grpc
import pytest

from meshfold.compat.mesh.part import Part
from meshfold.compat.mesh_v1 import embed
from meshfold.model.errors import (
    DeadlineExceeded,
    InvalidQuery,
    MeshfoldError,
    Overloaded,
    Unavailable,
    UnknownName,
)
from meshfold.protos.mesh.v1 import user_tower_pb2 as pb

Tower = Part[pb.EmbedRequest, pb.EmbedResponse]


def part(address: str, timeout_s: float = 5.0) -> Tower:
    return Part("the user tower", address, embed.METHOD, pb.EmbedResponse, timeout_s)


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A service that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def address_of(listening: socket.socket) -> str:
    return f"127.0.0.1:{listening.getsockname()[1]}"


def test_a_service_is_not_asked_for_a_caller_who_has_left_or_has_no_time(silent: socket.socket) -> None:
    tower = part(address_of(silent))
    with pytest.raises(CancelledError):
        tower(pb.EmbedRequest(), math.inf, lambda: False)
    with pytest.raises(DeadlineExceeded, match="the deadline passed before the user tower was asked"):
        tower(pb.EmbedRequest(), time.monotonic(), lambda: True)
    with pytest.raises(BlockingIOError):
        silent.accept()


@pytest.mark.parametrize("by_caller", [True, False])
def test_a_silent_service_is_named_after_the_earlier_of_both_deadlines(
    silent: socket.socket, by_caller: bool
) -> None:
    tower = part(address_of(silent), 60.0 if by_caller else 0.2)
    with pytest.raises(
        DeadlineExceeded, match=rf"the user tower at {address_of(silent)} did not answer within 0\.\d+ s"
    ):
        tower(pb.EmbedRequest(), time.monotonic() + 0.2 if by_caller else math.inf, lambda: True)


@pytest.mark.parametrize(
    ("code", "details", "kind", "told"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "k: too many: 7", InvalidQuery, "k: too many: 7"),
        (grpc.StatusCode.NOT_FOUND, "no surface", UnknownName, "no surface"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "8 wait", Overloaded, "the user tower at {}: 8 wait"),
        (grpc.StatusCode.UNAVAILABLE, "nothing", Unavailable, "the user tower at {} is unavailable: nothing"),
        (grpc.StatusCode.INTERNAL, "oh", Unavailable, "the user tower at {} failed: INTERNAL: oh"),
    ],
)
def test_statuses_become_the_errors_that_they_were_made_of(
    code: grpc.StatusCode, details: str, kind: type[MeshfoldError], told: str
) -> None:
    def abort(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(code, details)
        raise AssertionError

    _, service, method = embed.METHOD.split("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(abort)}
    server = grpc.server(
        ThreadPoolExecutor(1), handlers=[grpc.method_handlers_generic_handler(service, handlers)]
    )
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    tower = part(address)
    with pytest.raises(kind) as caught:
        tower(pb.EmbedRequest(), math.inf, lambda: True)
    assert str(caught.value) == told.format(address)
    tower.close()
    server.stop(None).wait()


def test_replicas_are_asked_in_turn() -> None:
    servers, addresses = [], []
    for name in ("a", "b"):
        answer = pb.EmbedResponse(version=name).SerializeToString()
        handler = grpc.unary_unary_rpc_method_handler(lambda request, context, answer=answer: answer)
        service, method = embed.METHOD.split("/")[1:]
        handlers = [grpc.method_handlers_generic_handler(service, {method: handler})]
        servers.append(grpc.server(ThreadPoolExecutor(1), handlers=handlers))
        addresses.append(f"127.0.0.1:{servers[-1].add_insecure_port('127.0.0.1:0')}")
        servers[-1].start()
    try:
        tower = part(f"ipv4:{','.join(addresses)}")
        deadline_s = time.monotonic() + 10
        # Until both stand, one of them answers alone.
        while {tower(pb.EmbedRequest(), deadline_s, lambda: True).version for _ in range(2)} != {"a", "b"}:
            pass
        versions = [tower(pb.EmbedRequest(), deadline_s, lambda: True).version for _ in range(10)]
        assert sorted(versions) == 5 * ["a"] + 5 * ["b"]
        tower.close()
    finally:
        for server in servers:
            server.stop(None)
