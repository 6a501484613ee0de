from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshfold.compat.client import CallFailed
from meshfold.compat.migration.client import MigrationClient
from meshfold.compat.migration.migration_service import MigrationService
from meshfold.compat.migration.mode_file import ModeFile
from meshfold.compat.migration.mode_switch import ModeSwitch
from meshfold.compat.migration.modes import Kind, Mode
from meshfold.model.errors import InvalidQuery
from tests.compat.migration.operators import serving


@pytest.fixture
def client(tmp_path: Path) -> Iterator[MigrationClient]:
    """Of a server that serves the surface shop."""
    switch = ModeSwitch(ModeFile(tmp_path / "modes.json"))
    switch.start()
    with serving(MigrationService(switch, "mesh.example:1", lambda: ("shop",)).answers) as address:
        client = MigrationClient(address)
        yield client
        client.close()
    switch.stop()


def test_what_is_set_is_shown(client: MigrationClient) -> None:
    client.set("shop", "canary", 5, "me", "try")
    shown = client.set("", "mirror", 0, "me", "all")
    assert (shown.mesh, shown.served, shown.trouble) == ("mesh.example:1", ("shop",), "")
    assert shown.modes.of("shop") == Mode(Kind.CANARY, 5)
    assert shown.modes.of("video") == Mode(Kind.MIRROR)
    assert [change.why for change in shown.modes.history] == ["all", "try"]
    assert client.show() == shown
    assert client.show(1).modes.history == shown.modes.history[:1]
    assert client.set("shop", "default", 0, "me", "").modes.of("shop") == Mode(Kind.MIRROR)
    assert client.kill("me", "enough").modes.default.kill


def test_errors_say_what_to_do(client: MigrationClient) -> None:
    with pytest.raises(InvalidQuery, match="0 to 100"):
        client.set("shop", "canary", 500, "me", "")
    with pytest.raises(CallFailed, match="publish a snapshot"):
        client.set("shpo", "serve", 0, "me", "")
    with pytest.raises(CallFailed, match=r"sets it all the same; did you mean 'shop'\?"):
        client.set("shpo", "mesh", 0, "me", "")
    assert "shpo" in client.set("shpo", "mesh", 0, "me", "", force=True).modes.surfaces


def test_the_callers_address_and_none_at_all() -> None:
    with serving({"/mesh.v1.OrchestratorService/Retrieve": lambda message, _: message}) as address:
        client = MigrationClient(address)
        with pytest.raises(CallFailed, match=f"{address} switches no modes: the admin address does"):
            client.show()
        client.close()
    client = MigrationClient(address)
    with pytest.raises(
        CallFailed, match=f"no answer from {address}.*--address names the server's admin address"
    ):
        client.kill("me", "")
    client.close()
