"""`meshfold query` at a mesh, and at a server in front of one: it asks as callers ask, and says who answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from meshfold.commands.__main__ import ADAPTERS, main
from meshfold.compat import mesh_v1
from meshfold.compat.migration.front import Front
from meshfold.service.config import ServerConfig
from meshfold.service.migration import MigrationConfig
from meshfold.service.server import Server

Ask = Callable[..., Any]
Publish = Callable[..., Path]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """(server, flags) -> what `meshfold query --json` says."""

    def ask(server: Server, *flags: str) -> Any:
        assert main(["query", "--address", server.address, "--json", *flags]) == 0
        return json.loads(capsys.readouterr().out)

    return ask


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    """Started servers; they are stopped at the end of the test."""
    started: list[Server] = []
    yield started
    for server in started:
        server.stop()


def started(servers: list[Server], store: Path, adapters: Any, **settings: Any) -> Server:
    given = {"address": "127.0.0.1:0", "poll_interval_s": 0.05, "shutdown_grace_s": 2.0, "queue_s": 60.0}
    server = Server(ServerConfig(store=store, **{**given, **settings}), adapters, Front)
    servers.append(server)
    server.start()
    return server


@pytest.fixture
def a_mesh(servers: list[Server], tmp_path: Path, publish_items: Publish) -> Server:
    """What callers know as the mesh: mesh.v1 and nothing else, with items of its own."""
    publish_items(tmp_path / "mesh", seed=7)
    return started(servers, tmp_path / "mesh", mesh_v1.ADAPTERS)


@pytest.fixture
def front(servers: list[Server], store: Path, tmp_path: Path, a_mesh: Server) -> Server:
    migration = MigrationConfig(state=str(tmp_path / "modes.json"), fallback=True)
    return started(servers, store, ADAPTERS, mesh=a_mesh.address, migration=migration)


def switch(front: Server, mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mode", "shop", *mode.split(), "--address", front.admin_address]) == 0
    capsys.readouterr()


def test_the_answer_says_which_side_it_is_from(
    front: Server, a_mesh: Server, ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    own, meshs = ({r.version for r in s.runners.values()}.pop() for s in (front, a_mesh))
    assert own != meshs
    for mode, side, version in (("mesh", "mesh", meshs), ("only", "model", own), ("serve", "model", own)):
        switch(front, mode, capsys)
        answer = ask(front, "--history=10,20", "--max-results=3")
        assert (answer["answered_by"], answer["version"], answer["protocol"]) == (side, version, "mesh.v1")
        assert len(answer["items"]) == 3
        assert set(answer["versions"].values()) == {version}
        assert main(["query", "--address", front.address, "--history=10,20"]) == 0
        assert f"20 results from the {side}, version {version[:12]}" in capsys.readouterr().out


def test_a_canary_answers_a_user_from_one_side(
    front: Server, ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    switch(front, "canary 50", capsys)
    sides = {user: ask(front, f"--user={user}")["answered_by"] for user in (*range(1, 9), "AE22", "AF33")}
    assert set(sides.values()) == {"mesh", "model"}
    assert all(ask(front, f"--user={user}")["answered_by"] == side for user, side in sides.items())


def test_a_mesh_that_is_down_is_told(
    front: Server, a_mesh: Server, ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    a_mesh.stop()
    answer = ask(front, "--history=10")
    assert (answer["answered_by"], answer["fallback"]) == ("model", "unavailable")
    assert main(["query", "--address", front.address, "--history=10"]) == 0
    assert "because the mesh failed (unavailable)" in capsys.readouterr().out


def test_a_refusal_says_whose_it_is(front: Server, capsys: pytest.CaptureFixture[str]) -> None:
    for mode, side in (("mesh", "mesh"), ("only", "model")):
        switch(front, mode, capsys)
        assert main(["query", "--address", front.address, "--filter=yaer == 1"]) == 1
        told = capsys.readouterr().err
        assert told.startswith("meshfold: filter.match.field: no field 'yaer'")
        assert told.endswith(f"(answered by the {side})\n")


@pytest.mark.parametrize("flag", ["--fields=title", "--max-per=language=1"])
def test_what_mesh_v1_cannot_ask_is_refused_with_the_way_that_can(
    front: Server, ask: Ask, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    assert main(["query", "--address", front.address, flag]) == 1
    told = capsys.readouterr().err
    assert "mesh.v1" in told
    assert "--protocol meshfold.v1" in told
    assert told.count("\n") == 1
    answer = ask(front, flag, "--protocol=meshfold.v1")
    assert (answer["protocol"], answer["answered_by"]) == ("meshfold.v1", "model")


def test_a_mesh_is_asked_by_mesh_v1(a_mesh: Server, ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    answer = ask(a_mesh, "--history=10,20", "--filter=year >= 1950", "--exclude=30,31", "--weights", "like=1")
    assert (answer["protocol"], answer["answered_by"]) == ("mesh.v1", "mesh")
    assert len(answer["items"]) == 20
    assert not {10, 20, 30, 31} & {item["item_id"] for item in answer["items"]}
    assert main(["query", "--address", a_mesh.address, "--protocol=meshfold.v1"]) == 1
    assert "--protocol mesh.v1 asks it as a mesh" in capsys.readouterr().err


def test_both_protocols_answer_alike_at_a_model(served: Server, ask: Ask) -> None:
    flags = ("--history=10,20", "--filter=language == 'de'", "--user=5", "--weights", "like=0.5", "watch=1")
    mesh, own = (ask(served, *flags, f"--protocol={p}") for p in ("mesh.v1", "meshfold.v1"))
    for item in own["items"]:
        item["fields"] = {}
    assert mesh["items"] == own["items"]
    assert mesh["version"] == own["version"]
    assert ask(served, *flags)["protocol"] == "meshfold.v1"
