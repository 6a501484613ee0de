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
from meshfold.model.errors import InvalidConfig
from meshfold.service.server import Server
from tests.compat.migration.conftest import ask, request
from tests.compat.migration.test_mode_switch import until

Start = Callable[..., Server]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def test_it_is_healthy_before_anything_is_published_and_found_by_reflection(
    start: Start, tmp_path: Path
) -> None:
    server = start(tmp_path / "nothing")
    with (
        grpc.insecure_channel(server.address) as channel,
        grpc.insecure_channel(server.admin_address) as admin,
    ):
        check = health_pb2_grpc.HealthStub(channel).Check
        states = {
            service: check(health_pb2.HealthCheckRequest(service=service)).status
            for service in (
                "",
                "mesh.v1.OrchestratorService",
                "meshfold.v1.MigrationService",
                "meshfold.v1.RetrievalService",
            )
        }
        assert list(states.values()) == [SERVING, SERVING, SERVING, NOT_SERVING]
        assert "meshfold.v1.MigrationService" in ProtoReflectionDescriptorDatabase(admin).get_services()
        # Callers find nothing of it.
        assert not {"meshfold.v1.MigrationService", "meshfold.v1.RecordingService"} & set(
            ProtoReflectionDescriptorDatabase(channel).get_services()
        )


def test_who_operates_it_gets_through_though_the_mesh_hangs(start: Start, store: Path) -> None:
    server = start(store, {"queue_limit": 1})
    waiting = (("x-wait-s", "20"),)
    with grpc.insecure_channel(server.address) as channel:
        hanging = [channel.unary_unary(METHOD).future(request(), metadata=waiting) for _ in range(12)]
        with grpc.insecure_channel(server.admin_address) as admin:
            check = health_pb2_grpc.HealthStub(admin).Check
            assert check(health_pb2.HealthCheckRequest(), timeout=10).status == SERVING
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
        until(lambda: ask(channel, request()).side == "model")
        client.kill("me", "empty answers")
        until(lambda: ask(channel, request()).side == "mesh")
    client.close()


def test_modes_that_cannot_be_read_stop_a_server_before_it_listens(start: Start, tmp_path: Path) -> None:
    (tmp_path / "modes.json").write_text("{")
    with pytest.raises(InvalidConfig, match="modes.json holds no modes"):
        start(tmp_path / "nothing")
