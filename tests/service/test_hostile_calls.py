"""Callers that break the rules of the protocol, beside one that keeps them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshfold.compat import meshfold_v1
from meshfold.compat.client import encode_request
from meshfold.model.types import Query
from meshfold.service import intake
from meshfold.service.server import Server
from tests.service.raw_caller import RawCaller
from tests.waiting import wait_until

Start = Callable[..., Server]
WATCH = "/grpc.health.v1.Health/Watch"
SERVING = health_pb2.HealthCheckResponse.SERVING


def answers(server: Server) -> bool:
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(meshfold_v1.METHOD)
        return bool(call(encode_request(Query("shop", 5)), timeout=10))


@pytest.mark.parametrize("method", ["/t.S/\xff\xfe", "", "/", "//", "no slash", "/a/b/c"])
def test_names_of_methods_that_are_none_end_nothing(served: Server, method: str) -> None:
    with RawCaller(served.address) as raw:
        raw.call(method, b"")
        assert answers(served)


def test_a_watch_that_is_never_read_holds_up_no_other_and_no_stop(store: Path, start: Start) -> None:
    server = start(store)
    request: Any = health_pb2.HealthCheckRequest()
    with RawCaller(server.address) as raw, grpc.insecure_channel(server.admin_address) as channel:
        raw.call(WATCH, request.SerializeToString())
        raw.call(WATCH, request.SerializeToString())
        watching = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=10)
        assert next(watching).status == SERVING
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert next(watching).status == health_pb2.HealthCheckResponse.NOT_SERVING
        stopping.join(10)
        assert not stopping.is_alive()


def test_a_watch_without_its_message_is_ended(
    store: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_READ_S", 0.3)
    server = start(store)
    with RawCaller(server.address) as raw:
        calls = [raw.call(WATCH, None) for _ in range(20)]
        wait_until(lambda: raw.ended >= set(calls))
        assert answers(server)


def test_health_stays_off_once_a_stop_has_begun(store: Path, start: Start) -> None:
    server = start(store)
    health = server._listener._health
    assert health is not None

    async def stopped_and_set() -> bool:
        health.stop()
        health.set({"": True})
        return health._serving[""]

    assert server._listener._events.run(stopped_and_set()) is False
