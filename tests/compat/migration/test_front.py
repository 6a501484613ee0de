from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from meshfold.compat.mesh_v1.retrieve import METHOD
from meshfold.compat.migration.client import MigrationClient
from meshfold.compat.migration.modes import Kind
from meshfold.model.errors import InvalidConfig, MeshfoldError
from meshfold.service.server import Server
from tests.compat.migration.conftest import ask, request
from tests.waiting import wait_until

Start = Callable[..., Server]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def states(address: str, *services: str) -> list[int]:
    with grpc.insecure_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        return [check(health_pb2.HealthCheckRequest(service=s), timeout=10).status for s in services]


def test_it_is_healthy_before_anything_is_published(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "nothing")
    for address in (server.address, server.admin_address):
        assert states(
            address,
            "",
            "mesh.v1.OrchestratorService",
            "meshfold.v1.MigrationService",
            "meshfold.v1.RecordingService",
            "meshfold.v1.RetrievalService",
        ) == [SERVING, SERVING, SERVING, SERVING, NOT_SERVING]


def test_operators_have_an_address_of_their_own(start: Start, store: Path) -> None:
    server = start(store)
    operated = {"meshfold.v1.MigrationService", "meshfold.v1.RecordingService"}
    answered = {"mesh.v1.OrchestratorService", "meshfold.v1.RetrievalService"}
    for address, here, elsewhere in (
        (server.address, answered, operated),
        (server.admin_address, operated, answered),
    ):
        with grpc.insecure_channel(address) as channel:
            services = set(ProtoReflectionDescriptorDatabase(channel).get_services())
            assert here <= services
            assert not elsewhere & services
    # Whoever can ask can neither switch nor record, and whoever operates it does not ask there.
    for address, method in (
        (server.address, "/meshfold.v1.MigrationService/Kill"),
        (server.address, "/meshfold.v1.RecordingService/StartRecording"),
        (server.admin_address, METHOD),
    ):
        with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(method)(b"", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    client = MigrationClient(server.address)
    with pytest.raises(MeshfoldError):
        client.kill("me", "")
    client.close()


def test_who_operates_it_gets_through_though_the_mesh_hangs(start: Start, store: Path) -> None:
    server = start(store, {"queue_limit": 2}, mesh_waiting=4)
    waiting = (("x-wait-s", "20"),)
    with grpc.insecure_channel(server.address) as channel:
        hanging = [channel.unary_unary(METHOD).future(request(), metadata=waiting) for _ in range(300)]
        for address in (server.address, server.admin_address):
            assert states(address, "") == [SERVING]
        client = MigrationClient(server.admin_address)
        assert client.set("shop", "only", 0, "me", "the mesh hangs").modes.of("shop").kind is Kind.ONLY
        assert client.kill("me", "").modes.default.kill
        client.close()
        for call in hanging:
            call.cancel()


def test_a_kill_at_one_server_is_in_effect_at_another_that_shares_the_file(start: Start, store: Path) -> None:
    one, other = start(store), start(store)
    client = MigrationClient(one.admin_address)
    client.set("shop", "only", 0, "me", "")
    with grpc.insecure_channel(other.address) as channel:
        wait_until(lambda: ask(channel, request()).side == "model")
        client.kill("me", "empty answers")
        wait_until(lambda: ask(channel, request()).side == "mesh")
    client.close()


def test_modes_that_cannot_be_read_stop_a_server_before_it_listens(start: Start, tmp_path: Path) -> None:
    (tmp_path / "modes.json").write_text("{")
    with pytest.raises(InvalidConfig, match="modes.json holds no modes"):
        start(tmp_path / "nothing")
