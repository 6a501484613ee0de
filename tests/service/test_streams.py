from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from meshfold.compat import meshfold_v1
from meshfold.compat.client import encode_request
from meshfold.model.types import Query
from meshfold.service import intake as module
from meshfold.service import streams as own_streams
from meshfold.service.server import Server
from tests.service.test_intake import connection

CODES = grpc.StatusCode


Start = Callable[..., Server]
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


class Streams:
    """Streams of reflection that ask nothing more after a first question."""

    def __init__(self, channel: grpc.Channel, count: int) -> None:
        self._over = threading.Event()
        reflect = channel.stream_stream(
            REFLECTION,
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        self.streams = [reflect(self._first()) for _ in range(count)]

    def _first(self) -> Iterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        self._over.wait(20)

    def refused(self) -> int:
        """How many of them got no first answer."""
        return sum(self._is_refused(stream) for stream in self.streams)

    def _is_refused(self, stream: Any) -> bool:
        try:
            return not next(stream).list_services_response.service
        except grpc.RpcError:
            return stream.code() is CODES.RESOURCE_EXHAUSTED and "streams are open" in stream.details()

    def end(self) -> None:
        self._over.set()
        for stream in self.streams:
            stream.cancel()


def test_idle_streams_are_limited_and_everything_else_is_answered(
    store: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STREAMS", 8)
    server = start(store)
    with ExitStack() as stack:
        one, other = (stack.enter_context(connection(server.address)) for _ in range(2))
        idle = Streams(one, 10)
        stack.callback(idle.end)
        assert idle.refused() == 6
        # Another connection has streams still, and calls are no streams.
        more = Streams(other, 3)
        stack.callback(more.end)
        assert more.refused() == 1
        health = health_pb2_grpc.HealthStub(one)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == 1
        assert one.unary_unary(meshfold_v1.METHOD)(encode_request(Query("shop", 5)), timeout=10)
        # A watch of health is a stream.
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=10)
        with pytest.raises(grpc.RpcError) as caught:
            next(watch)
        assert caught.value.code() is CODES.RESOURCE_EXHAUSTED
        # Operators have others.
        operators = stack.enter_context(connection(server.admin_address))
        assert next(health_pb2_grpc.HealthStub(operators).Watch(health_pb2.HealthCheckRequest())).status == 1


def test_a_stream_that_is_idle_for_long_ends_and_makes_room(
    store: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STREAMS", 2)
    monkeypatch.setattr(own_streams, "IDLE_S", 0.1)
    server = start(store)
    with connection(server.address) as channel:
        idle = Streams(channel, 1)
        (stream,) = idle.streams
        assert next(stream).list_services_response.service
        # No status of a failure: the server has nothing more to say.
        assert list(stream) == []
        assert stream.code() is CODES.OK
        again = Streams(channel, 1)
        assert again.refused() == 0
        for streams in (idle, again):
            streams.end()
