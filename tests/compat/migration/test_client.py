from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from meshfold.compat.client import CallFailed
from meshfold.compat.migration.client import MigrationClient
from meshfold.compat.migration.modes import Kind, Mode
from meshfold.model.errors import InvalidQuery
from meshfold.service.config import ServerConfig
from meshfold.service.server import Server
from tests.compat.migration.conftest import ToldMesh

Start = Callable[..., Server]


def test_what_is_set_is_shown(start: Start, store: Path, mesh: ToldMesh) -> None:
    client = MigrationClient(start(store).address)
    client.set("shop", "canary", 5, "me", "try")
    shown = client.set("", "mirror", 0, "me", "all")
    assert (shown.mesh, shown.served) == (mesh.address, ("shop",))
    assert shown.modes.of("shop") == Mode(Kind.CANARY, 5)
    assert shown.modes.of("video") == Mode(Kind.MIRROR)
    assert [change.why for change in shown.modes.history] == ["all", "try"]
    assert client.show() == shown
    assert client.set("shop", "default", 0, "me", "").modes.of("shop") == Mode(Kind.MIRROR)
    assert client.kill("me", "enough").modes.default.kill
    client.close()


def test_errors_say_what_to_do(start: Start, store: Path) -> None:
    client = MigrationClient(start(store).address)
    with pytest.raises(InvalidQuery, match="0 to 100"):
        client.set("shop", "canary", 500, "me", "")
    with pytest.raises(CallFailed, match="publish a snapshot"):
        client.set("shpo", "serve", 0, "me", "")
    client.close()


def test_a_server_without_a_mesh_and_none_at_all(store: Path) -> None:
    alone = Server(ServerConfig(address="127.0.0.1:0", store=store), ())
    alone.start()
    client = MigrationClient(alone.address)
    with pytest.raises(CallFailed, match="in front of no mesh; `meshfold serve --mesh HOST:PORT` does"):
        client.show()
    client.close()
    alone.stop()
    client = MigrationClient(alone.address)
    with pytest.raises(CallFailed, match=f"no answer from {alone.address}.*--address names the server"):
        client.kill("me", "")
    client.close()
