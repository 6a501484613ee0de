from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from meshfold.service.server import Server
from tests.waiting import wait_until

Start = Callable[..., Server]
Publish = Callable[..., Path]
CODES = grpc.StatusCode
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
ADDRESSES = ("address", "admin_address")
SERVICES = {
    "mesh.v1.OrchestratorService",
    "mesh.v1.UserTowerService",
    "mesh.v1.RetrievalService",
    "mesh.v1.ScoringService",
    "meshfold.v1.RetrievalService",
}
REFLECTIONS = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


@pytest.fixture(params=ADDRESSES)
def channel(served: Server, request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    """To callers' address and to operators'."""
    with grpc.insecure_channel(getattr(served, request.param)) as channel:
        yield channel


def check(channel: grpc.Channel, service: str = "") -> int:
    asked = health_pb2.HealthCheckRequest(service=service)
    status: int = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=10).status
    return status


def watch(channel: grpc.Channel, service: str = "") -> Any:
    return health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=service))


def test_the_server_and_each_service_are_healthy(channel: grpc.Channel) -> None:
    assert {check(channel, service) for service in ("", *SERVICES)} == {SERVING}


def test_the_health_of_a_service_that_is_not_here(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        check(channel, "mesh.v1.Nothing")
    assert (caught.value.code(), caught.value.details()) == (
        CODES.NOT_FOUND,
        "no service 'mesh.v1.Nothing' is here",
    )
    # A watch may be of one that comes later (gRPC's health checking protocol).
    stream = watch(channel, "mesh.v1.Nothing")
    assert next(stream).status == SERVICE_UNKNOWN
    stream.cancel()


def test_bytes_that_are_no_health_check(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/grpc.health.v1.Health/Check")(b"\xff", timeout=10)
    assert caught.value.code() is CODES.INVALID_ARGUMENT
    assert "the bytes are not a grpc.health.v1.HealthCheckRequest" in caught.value.details()


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_watch_is_told_of_what_is_published_and_of_the_stop(
    start: Start, tmp_path: Path, publish_items: Publish, address: str
) -> None:
    # A stop gives streams its whole grace.
    server = start(tmp_path, shutdown_grace_s=0.5)
    with grpc.insecure_channel(getattr(server, address)) as channel:
        seen: list[int] = []

        def follow() -> None:
            try:
                for answer in watch(channel, "mesh.v1.OrchestratorService"):
                    seen.append(answer.status)
            except grpc.RpcError:
                seen.append(-1)

        follower = threading.Thread(target=follow)
        follower.start()
        wait_until(lambda: seen == [NOT_SERVING])
        publish_items(tmp_path)
        wait_until(lambda: seen == [NOT_SERVING, SERVING])
        stop = threading.Thread(target=server.stop)
        stop.start()
        wait_until(lambda: seen[:3] == [NOT_SERVING, SERVING, NOT_SERVING])
        stop.join(20)
        follower.join(10)
        assert not stop.is_alive()
        assert not follower.is_alive()


@pytest.mark.parametrize("reflection", REFLECTIONS)
def test_both_versions_of_reflection_tell_of_services_and_their_messages(
    served: Server, reflection: str
) -> None:
    with grpc.insecure_channel(served.address) as channel:
        asked = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="mesh.v1.OrchestratorService"),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="mesh.v1.Nothing"),
        ]
        call = channel.stream_stream(
            f"/{reflection}/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        listed, found, missing = call(iter(asked), timeout=10)
    names = {service.name for service in listed.list_services_response.service}
    assert names == {*SERVICES, *REFLECTIONS, "grpc.health.v1.Health"}
    files = map(FileDescriptorProto.FromString, found.file_descriptor_response.file_descriptor_proto)
    assert "OrchestratorService" in {service.name for file in files for service in file.service}
    assert missing.error_response.error_code == CODES.NOT_FOUND.value[0]


def test_operators_find_what_is_there_for_them(served: Server) -> None:
    with grpc.insecure_channel(served.admin_address) as channel:
        call = channel.stream_stream(
            f"/{REFLECTIONS[0]}/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        (listed,) = call(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=10)
    # Without a mesh there is nothing to operate.
    names = {service.name for service in listed.list_services_response.service}
    assert names == {*REFLECTIONS, "grpc.health.v1.Health"}
