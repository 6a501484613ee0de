from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshfold.compat import meshfold_v1
from meshfold.compat.client import Client
from meshfold.model.errors import InvalidConfig
from meshfold.model.types import Query
from meshfold.service.config import ServerConfig
from meshfold.service.ports import NO_ADDRESS, operators_address
from meshfold.service.server import Server

Start = Callable[..., Server]


@pytest.mark.parametrize(
    ("given", "address", "wanted_port", "expected"),
    [
        # The port after the callers', on loopback whatever theirs listens on.
        ("", "127.0.0.1:50051", 50051, "127.0.0.1:50052"),
        ("", "0.0.0.0:50051", 50051, "127.0.0.1:50052"),
        ("", "[::]:50051", 50051, "127.0.0.1:50052"),
        ("", "127.0.0.1:65535", 65535, "127.0.0.1:0"),
        # Any, where the callers' was any.
        ("", "127.0.0.1:43210", 0, "127.0.0.1:0"),
        ("", "unix:/run/meshfold", 0, "unix:/run/meshfold.admin"),
        ("10.0.0.1:7", "0.0.0.0:50051", 50051, "10.0.0.1:7"),
        ("unix:/run/admin", "0.0.0.0:50051", 50051, "unix:/run/admin"),
    ],
)
def test_where_operators_are_answered(given: str, address: str, wanted_port: int, expected: str) -> None:
    assert operators_address(given, address, wanted_port) == expected


def is_healthy(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        asked = health_pb2.HealthCheckRequest()
        return bool(health_pb2_grpc.HealthStub(channel).Check(asked, timeout=10).status == 1)


def test_a_free_port_is_taken_for_each(served: Server) -> None:
    ports = {address.rpartition(":")[2] for address in (served.address, served.admin_address)}
    assert len(ports) == 2
    assert "0" not in ports
    assert is_healthy(served.address)
    assert is_healthy(served.admin_address)


def test_operators_may_have_none(store: Path, start: Start) -> None:
    server = start(store, admin_address=NO_ADDRESS)
    assert server.admin_address == ""
    assert is_healthy(server.address)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "unix"])
def test_unix_sockets_have_another_beside_them(
    store: Path, start: Start, tmp_path: Path, address: str
) -> None:
    socket = f"unix:{tmp_path}/socket"
    server = start(store, address=socket, admin_address=address if address != "unix" else "")
    if address == "unix":
        assert server.admin_address == f"{socket}.admin"
    assert is_healthy(server.admin_address)
    with Client(server.address) as client:
        assert len(client.retrieve(Query("shop", 5)).item_ids) == 5


def test_an_address_in_use_names_the_setting_that_chooses_another(served: Server, store: Path) -> None:
    cases: tuple[tuple[str, dict[str, Any]], ...] = (
        ("--address", {"address": served.address}),
        ("--admin-address", {"address": "127.0.0.1:0", "admin_address": served.address}),
        ("--admin-address", {"address": "127.0.0.1:0", "admin_address": served.admin_address}),
    )
    for setting, taken in cases:
        address = taken.get("admin_address", taken["address"])
        said = f"cannot listen on {address}: the port is in use, .* choose another with {setting}$"
        with pytest.raises(InvalidConfig, match=re.sub(r"([.])(?=\d)", r"\\\1", said)):
            Server(ServerConfig(store=store, **taken), (meshfold_v1,))
    assert is_healthy(served.address)
    assert is_healthy(served.admin_address)


def test_a_host_that_is_not_here_is_an_error(store: Path) -> None:
    config = ServerConfig(store=store, address="127.0.0.1:0", admin_address="192.0.2.1:0")
    with pytest.raises(InvalidConfig, match="cannot listen on 192.0.2.1:0.*--admin-address"):
        Server(config, (meshfold_v1,))


def test_what_was_bound_is_free_again_after_an_error_and_after_a_stop(store: Path, start: Start) -> None:
    first = start(store)
    address, admin_address = first.address, first.admin_address
    with pytest.raises(InvalidConfig):
        Server(ServerConfig(store=store, address="127.0.0.1:0", admin_address=admin_address), (meshfold_v1,))
    first.stop()
    second = start(store, address=address, admin_address=admin_address)
    assert is_healthy(second.address)
    assert is_healthy(second.admin_address)
