"""Metadata between a caller and a mesh that allow more of it than gRPC does by default."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshfold.compat.query_client import QueryClient
from meshfold.model.types import Query
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.service.server import Server
from tests.compat.migration.conftest import MUCH_METADATA, ToldMesh, ask, request
from tests.compat.migration.test_proxy import nowhere, switch
from tests.service.raw_caller import RawCaller
from tests.waiting import wait_until

__all__ = ["nowhere"]
Start = Callable[..., Server]
Code = grpc.StatusCode
# Beyond gRPC's soft limit, between its limits, beyond both, as much as the case's mesh allows, and more.
SIZES = (9_000, 12_000, 20_000, 300_000, 1_000_000, 3_000_000)


def connection(address: str) -> grpc.Channel:
    return grpc.insecure_channel(address, [*MUCH_METADATA, ("grpc.use_local_subchannel_pool", 1)])


def told(place: str, size: int) -> dict[str, Any]:
    return {place: str(size)}


@pytest.fixture
def proxied(start: Start, nowhere: Path) -> Iterator[grpc.Channel]:
    with connection(start(nowhere).address) as channel:
        yield channel


def test_headers_of_a_request_pass(proxied: grpc.Channel, mesh: ToldMesh) -> None:
    for size in SIZES:
        half = size // 2
        got = ask(proxied, request(), authorization="a" * half, x_trace_bin=b"\x80" * (half // 2))
        assert (got.code, got.side) == (Code.OK, "mesh")
        there = mesh.calls[-1].metadata
        assert (len(there["authorization"]), len(there["x-trace-bin"])) == (half, half // 2)


def test_metadata_of_an_answer_pass(proxied: grpc.Channel) -> None:
    for place in ("x_initial_bytes", "x_trailing_bytes"):
        for size in SIZES:
            got = ask(proxied, request(), **told(place, size))
            assert (got.code, got.message, got.side) == (Code.OK, b"mesh " + request(), "mesh")
            found = got.initial if place == "x_initial_bytes" else got.trailing
            assert len(found["x-much"]) == size


def test_a_status_passes_with_a_long_text_and_long_details(proxied: grpc.Channel) -> None:
    for size in SIZES[:-1]:
        # The mesh is told what to say by headers, so that these are long too.
        text = "e" * (size // 3)
        details = b"\x08\xff" * (size // 6)
        got = ask(
            proxied,
            request(),
            x_code="FAILED_PRECONDITION",
            x_details_bin=text.encode(),
            x_status_bin=details,
        )
        assert (got.code, got.details, got.side) == (Code.FAILED_PRECONDITION, text, "mesh")
        assert got.trailing["grpc-status-details-bin"] == details
        assert got.trailing["x-trailing"] == "also"


def test_our_own_client_takes_what_a_mesh_sends(start: Start, nowhere: Path) -> None:
    def retrieve(message: bytes, context: Any) -> bytes:
        context.send_initial_metadata((("x-much", "i" * 300_000),))
        context.set_trailing_metadata((("x-much", "t" * 300_000),))
        answer: bytes = pb.RetrieveResponse().SerializeToString()
        return answer

    handler = grpc.unary_unary_rpc_method_handler(retrieve)
    handlers = [grpc.method_handlers_generic_handler("mesh.v1.OrchestratorService", {"Retrieve": handler})]
    mesh = grpc.server(ThreadPoolExecutor(2), handlers=handlers)
    port = mesh.add_insecure_port("127.0.0.1:0")
    mesh.start()
    client = QueryClient(start(nowhere, {"mesh": f"127.0.0.1:{port}"}).address)
    assert client.ask(Query("shop", 5), 10).answered_by == "mesh"
    client.close()
    mesh.stop(None).wait()


def test_a_callers_own_limit_holds_and_the_server_goes_on(start: Start, nowhere: Path) -> None:
    server = start(nowhere)
    with grpc.insecure_channel(server.address) as channel:
        for place in ("x_initial_bytes", "x_trailing_bytes"):
            assert ask(channel, request(), **told(place, 40_000)).code is Code.RESOURCE_EXHAUSTED
            assert ask(channel, request()).code is Code.OK


def test_the_servers_limit_is_a_setting(start: Start, nowhere: Path, mesh: ToldMesh) -> None:
    server = start(nowhere, {"metadata_bytes": 40_000})
    with connection(server.address) as channel:
        assert ask(channel, request(), x_long="a" * 30_000).code is Code.OK
        assert ask(channel, request(), x_long="a" * 60_000).code is Code.RESOURCE_EXHAUSTED
        # What the mesh sends is not the callers' to bound.
        assert ask(channel, request(), x_trailing_bytes="500000").code is Code.OK
    assert len(mesh.calls) == 2


def test_the_model_answers_callers_with_long_headers(start: Start, store: Path) -> None:
    server = start(store)
    switch(server, "only")
    with connection(server.address) as channel:
        assert ask(channel, request(), x_long="a" * 1_000_000).side == "model"


def test_metadata_that_wait_for_a_message_are_bounded_by_connection(start: Start, nowhere: Path) -> None:
    server = start(nowhere, {"queue_bytes": 8 << 20})
    intake: Any = server._listener.intake
    with connection(server.address) as channel, RawCaller(server.address) as raw:
        for _ in range(40):
            raw.call("/mesh.v1.OrchestratorService/Retrieve", None, headers={"x-long": "a" * 500_000})
        # Half of what may be held is one connection's; the rest is refused.
        wait_until(lambda: len(raw.ended) >= 30)
        assert intake._metadata.used < 4.3e6
        assert ask(channel, request(), x_long="a" * 1_000_000).code is Code.OK
    wait_until(lambda: intake._metadata.used == 0)


def test_answers_metadata_that_nobody_reads_are_bounded(start: Start, nowhere: Path) -> None:
    server = start(nowhere, {"unread_bytes": 1_000_000})
    with connection(server.address) as channel:
        got = ask(channel, request(), x_trailing_bytes="2000000")
        assert got.code is Code.RESOURCE_EXHAUSTED
        assert "callers may leave 1000000 unread" in got.details
        assert ask(channel, request(), x_trailing_bytes="500000").code is Code.OK
        got = ask(
            channel,
            request(),
            x_code="NOT_FOUND",
            x_details_bin=b"",
            x_status_bin=b"\x08" * 2_000_000,
        )
        assert got.code is Code.RESOURCE_EXHAUSTED
        assert ask(channel, request()).code is Code.OK
    wait_until(lambda: server._listener.intake.unread_bytes() == 0)
