"""Three servers and one real Redis, which fails in every way that it can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshfold.commands.__main__ import ADAPTERS
from meshfold.compat.client import CallFailed
from meshfold.compat.migration.client import MigrationClient
from meshfold.compat.migration.front import Front
from meshfold.compat.migration.modes import Modes
from meshfold.compat.migration.stickiness import chosen
from meshfold.compat.migration.wire_scan import scan
from meshfold.service import state_redis
from meshfold.service.config import ServerConfig
from meshfold.service.listener import STATE
from meshfold.service.migration import MigrationConfig
from meshfold.service.server import Server
from tests.compat.hydration.conftest import counted
from tests.compat.migration.conftest import ToldMesh, ask, request
from tests.service.shared_redis import FailingRedis, shared_redis
from tests.waiting import wait_until

__all__ = ["shared_redis"]

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
Begin = Callable[[str], Server]


@pytest.fixture
def begin(
    shared_redis: FailingRedis, store: Path, mesh: ToldMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Begin]:
    """(machine) -> a server in front of the mesh on that machine, all of whose states are in Redis.

    A busy machine is no Redis that hangs.
    """
    monkeypatch.setattr(state_redis, "ANSWER_S", 5.0)
    servers: list[Server] = []

    def begin(machine: str) -> Server:
        config = ServerConfig(
            address="127.0.0.1:0",
            mesh=mesh.address,
            store=store,
            state=shared_redis.url(),
            copies=tmp_path / machine,
            poll_interval_s=0.05,
            queue_s=60.0,
            shutdown_grace_s=5.0,
            migration=MigrationConfig(state=shared_redis.url()),
        )
        servers.append(Server(config, ADAPTERS, Front))
        servers[-1].start()
        return servers[-1]

    yield begin
    for server in servers:
        server.stop()


@pytest.fixture
def fleet(begin: Begin) -> list[Server]:
    return [begin(machine) for machine in ("a", "b", "c")]


def tell(server: Server, kind: str, percent: float = 0, surface: str = "shop") -> None:
    client = MigrationClient(server.admin_address)
    try:
        client.set(surface, kind, percent, "a test", "")
    finally:
        client.close()


def kill(server: Server) -> None:
    client = MigrationClient(server.admin_address)
    try:
        client.kill("a test", "broken")
    finally:
        client.close()


def modes(server: Server) -> Modes:
    client = MigrationClient(server.admin_address)
    try:
        return client.show().modes
    finally:
        client.close()


def side(server: Server, user_id: int = 7) -> str:
    with grpc.insecure_channel(server.address) as channel:
        return ask(channel, request(user_id)).side


def follows(server: Server) -> bool:
    """By its health, which must say the same as its metrics."""
    with grpc.insecure_channel(server.admin_address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        status = check(health_pb2.HealthCheckRequest(service=STATE), timeout=10).status
        assert check(health_pb2.HealthCheckRequest(service=""), timeout=10).status == SERVING
    names = ("modes", "denied", "pins")
    readable = {name: counted(server, f"meshfold_{name}_readable") for name in names}
    return bool(status == SERVING) and set(readable.values()) == {1.0}


def test_every_server_follows_one_mode(fleet: list[Server]) -> None:
    tell(fleet[0], "serve")
    wait_until(lambda: {side(server) for server in fleet} == {"model"})
    kill(fleet[1])
    assert side(fleet[1]) == "mesh"
    wait_until(lambda: {side(server) for server in fleet} == {"mesh"})
    assert [modes(server).generation for server in fleet] == [2, 2, 2]
    assert [change.kill for change in modes(fleet[2]).history] == [True, False]
    wait_until(lambda: all(follows(server) for server in fleet))


def test_denied_items_and_pins_are_those_of_all(fleet: list[Server]) -> None:
    fleet[0]._denied.deny("shop", ["10"], "a test", "")
    wait_until(lambda: all(server._denied.of("shop") == ("10",) for server in fleet))
    version = next(iter(fleet[1]._operations.shown("shop"))).versions[0]
    fleet[1]._operations.activate("shop", version.folder, "a test", "")
    wait_until(lambda: all(s._pins.current.folder("shop") == version.folder for s in fleet))
    assert [c["action"] for c in fleet[2]._denied.history(5)] == ["deny"]
    assert [c.action for c in fleet[2]._pins.history(5)] == ["activate"]


def test_a_canary_user_is_on_one_side_everywhere(fleet: list[Server]) -> None:
    tell(fleet[2], "canary", 30)
    wait_until(lambda: all(str(modes(server).of("shop")) == "canary 30 %" for server in fleet))

    def chosen_by(server: Server) -> list[bool]:
        mode = modes(server).of("shop")
        messages = [request(user_id) for user_id in range(1, 10_001)]
        return [chosen(mode.percent, "shop", scan(message), message) for message in messages]

    first = chosen_by(fleet[0])
    assert 2700 < sum(first) < 3300
    assert all(chosen_by(server) == first for server in fleet[1:])
    for user_id in (1, 2, 3, 4, 5, 6, 7, 8):
        expected = "model" if first[user_id - 1] else "mesh"
        assert {side(server, user_id) for server in fleet} == {expected}


@pytest.mark.long
def test_ten_thousand_canary_users_are_answered_by_one_side_everywhere(fleet: list[Server]) -> None:
    tell(fleet[0], "canary", 50)
    wait_until(lambda: all(str(modes(server).of("shop")) == "canary 50 %" for server in fleet))

    def sides(server: Server) -> list[str]:
        with grpc.insecure_channel(server.address) as channel:
            return [ask(channel, request(user_id, max_results=1)).side for user_id in range(1, 10_001)]

    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(sides, fleet)
    assert others == [first, first]
    assert set(first) == {"mesh", "model"}


@pytest.mark.parametrize("loss", ["empty", "older", "hangs"])
def test_a_redis_that_fails_undoes_no_kill_and_stops_no_server(
    begin: Begin, shared_redis: FailingRedis, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if loss == "hangs":
        monkeypatch.setattr(state_redis, "ANSWER_S", 0.3)
    fleet = [begin(machine) for machine in ("a", "b", "c")]
    tell(fleet[0], "serve")
    wait_until(lambda: {side(server) for server in fleet} == {"model"})
    if loss == "older":
        shared_redis.dump()
    tell(fleet[1], "only")
    wait_until(lambda: all(str(modes(server).of("shop")) == "only" for server in fleet))
    if loss == "hangs":
        shared_redis.hang()
    else:
        shared_redis.kill()
    wait_until(lambda: not any(follows(server) for server in fleet))
    assert {side(server) for server in fleet} == {"model"}
    with pytest.raises(CallFailed, match="nothing was changed: the modes in redis://.* cannot be reached"):
        tell(fleet[0], "mesh")
    with pytest.raises(
        CallFailed,
        match="the mesh answers everything here now, after a restart, too, but servers that share them do not",
    ):
        kill(fleet[2])
    assert [side(server) for server in fleet] == ["model", "model", "mesh"]
    assert counted(fleet[2], "meshfold_kill_unwritten") == 1
    if loss == "hangs":
        shared_redis.go_on()
    else:
        shared_redis.start()
    wait_until(lambda: {side(server) for server in fleet} == {"mesh"})
    wait_until(lambda: all(follows(server) for server in fleet))
    assert counted(fleet[2], "meshfold_kill_unwritten") == 0
    assert len({modes(server).generation for server in fleet}) == 1
    told = [(str(c.mode), c.kill) for c in modes(fleet[0]).history]
    assert told == [("mesh", True), ("only", False), ("serve", False)]


def test_a_server_that_starts_without_redis_obeys_what_its_machine_saw(
    begin: Begin, shared_redis: FailingRedis, caplog: pytest.LogCaptureFixture
) -> None:
    first = begin("a")
    tell(first, "serve")
    first._denied.deny("", ["10"], "a test", "")
    first.stop()
    shared_redis.kill()
    again, new = begin("a"), begin("b")
    assert (side(again), again._denied.of("shop")) == ("model", ("10",))
    # What no copy tells may not be guessed: the mesh answers, and the model nothing that may be denied.
    assert (side(new), dict(new.runners)) == ("mesh", {})
    assert not follows(again)
    assert not follows(new)
    assert "the modes in redis://" in caplog.text
    assert "; the last state that this machine saw is in effect" in caplog.text
    assert "; without earlier ones the mesh answers every surface" in caplog.text
    assert "; the model serves nothing until they are read" in caplog.text
    with pytest.raises(CallFailed, match="the mesh answers everything here now, after a restart, too"):
        kill(again)
    again.stop()
    again = begin("a")
    assert side(again) == "mesh"
    # It came back empty: what it held, and the kill, are on the machine.
    shared_redis.start()
    wait_until(lambda: follows(again) and follows(new))
    wait_until(lambda: new._denied.of("shop") == ("10",) and "shop" in new.runners)
    # One may see the empty Redis before the other has written back what it held.
    wait_until(lambda: [str(c.mode) for c in modes(new).history] == ["mesh", "serve"])
    assert modes(new).history[0].kill
    tell(new, "serve")
    wait_until(lambda: side(again) == side(new) == "model")


def test_no_log_holds_the_password(
    store: Path, mesh: ToldMesh, shared_redis: FailingRedis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    url = shared_redis.url().replace("://", "://someone:a-secret@")
    settings: dict[str, Any] = {"mesh": mesh.address, "store": store, "state": url, "copies": tmp_path / "a"}
    config = ServerConfig(address="127.0.0.1:0", migration=MigrationConfig(state=url), **settings)
    server = Server(config, ADAPTERS, Front)
    server.start()
    try:
        client = MigrationClient(server.admin_address)
        assert "WRONGPASS" in client.show().trouble or "invalid username" in client.show().trouble
        assert "a-secret" not in client.show().trouble
        client.close()
    finally:
        server.stop()
    assert "redis://" in caplog.text
    assert "a-secret" not in caplog.text
