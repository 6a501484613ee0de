"""Versions and denied items over the wire, at a real server's operators' address."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshfold.commands.__main__ import ADAPTERS
from meshfold.compat.client import CallFailed, Client
from meshfold.compat.version_client import VersionClient
from meshfold.compat.version_service import operate
from meshfold.model.store import Store
from meshfold.model.types import Query
from meshfold.service.config import ServerConfig
from meshfold.service.server import Server
from tests.service.conftest import publish_items

__all__ = ["publish_items"]
Publish = Callable[..., Path]
Start = Callable[[], tuple[Server, VersionClient]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """() -> a server of the store tmp_path and its operators' client; each call starts one more."""
    ends: list[Callable[[], None]] = []

    def start() -> tuple[Server, VersionClient]:
        config = ServerConfig(
            address="127.0.0.1:0", store=tmp_path, poll_interval_s=0.05, shutdown_grace_s=1.0, queue_s=60.0
        )
        server = Server(config, ADAPTERS, operate=operate)
        ends.append(server.stop)
        server.start()
        client = VersionClient(server.admin_address)
        ends.append(client.close)
        return server, client

    yield start
    for end in reversed(ends):
        end()


def answered(server: Server, results: int = 10) -> tuple[str, list[int]]:
    """(version, item ids) of an answer."""
    client = Client(server.address)
    try:
        answer = client.retrieve(Query("shop", results), timeout_s=30)
        return answer.version, [int(i) for i in answer.item_ids]
    finally:
        client.close()


def active(client: VersionClient) -> str:
    (shown,) = client.show("shop").surfaces
    return str(next(version.folder for version in shown.versions if version.active))


def eventually(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_a_roll_back_is_in_effect_when_the_call_returns_and_others_follow(
    tmp_path: Path, publish_items: Publish, start: Start
) -> None:
    first, second = (publish_items(tmp_path, seed=seed) for seed in (1, 2))
    (server, client), (other, others) = start(), start()
    client.load("shop", first.name)
    told = client.roll_back("shop", "", "me", "bad answers")
    assert told.surfaces[0].pin.why == "bad answers"
    assert answered(server)[0].startswith(first.name.rpartition("-")[2])
    eventually(lambda: active(others) == first.name)
    assert answered(other) == answered(server)
    client.follow("shop", "me", "")
    eventually(lambda: active(client) == active(others) == second.name)
    history = client.show(changes=10).history
    assert [(change.action, change.who) for change in history] == [("follow", "me"), ("roll back", "me")]
    assert [d.folder for d in others.delete("shop", (), 1, 0.0, "me", "", True).versions] == []
    assert len(Store(tmp_path).published("shop")) == 2


def test_a_takedown_outlives_swaps_and_restarts_and_is_seen_by_others(
    tmp_path: Path, publish_items: Publish, start: Start
) -> None:
    publish_items(tmp_path, seed=1)
    (server, client), (other, _) = start(), start()
    _, before = answered(server)
    gone = before[0]
    told = client.deny("", [str(gone), "99"], "me", "court order")
    assert [(item.item_id, list(item.held_by)) for item in told.items] == [
        (str(gone), ["shop"]),
        ("99", ["shop"]),
    ]
    assert not told.passes_mesh_answers
    version, after = answered(server)
    assert after[0] == before[1]
    assert len(after) == 10
    eventually(lambda: answered(other)[1] == after)
    publish_items(tmp_path, seed=2)
    eventually(lambda: answered(server)[0] != version)
    assert gone not in answered(server, 390)[1]
    again, clients = start()
    assert gone not in answered(again, 390)[1]
    clients.undeny("", [str(gone)], "me", "lifted")
    assert gone in answered(again, 400)[1]
    listed = clients.denied(changes=10)
    assert [item.item_id for item in listed.items] == ["99"]
    assert [(c.action, c.why) for c in listed.history] == [("undo", "lifted"), ("deny", "court order")]


def test_an_item_that_no_catalog_holds_is_told(tmp_path: Path, publish_items: Publish, start: Start) -> None:
    publish_items(tmp_path)
    _, client = start()
    (item,) = client.deny("shop", ["4711"], "me", "").items
    assert list(item.held_by) == []
    (item,) = client.denied().items
    assert (item.item_id, item.surface, list(item.held_by)) == ("4711", "shop", [])


def test_what_does_not_fit_is_told_in_one_line(tmp_path: Path, publish_items: Publish, start: Start) -> None:
    folder = publish_items(tmp_path)
    server, client = start()
    for call, told in (
        (lambda: client.deny("shoop", ["1"], "me", ""), "no version of surface 'shoop'.*shop"),
        (lambda: client.deny("", [], "me", ""), "item_ids: must be 1 to 10000 ids"),
        (lambda: client.undeny("", ["1"], "me", ""), "item '1' is not denied on every surface"),
        (lambda: client.denied(changes=1001), "changes: must be 0 to 1000"),
        (lambda: client.show("shoop"), "no version of surface 'shoop'"),
        (lambda: client.activate("shop", "abcd", "me", ""), "has no version 'abcd'"),
        (lambda: client.roll_back("shop", "", "me", ""), "no version that is older"),
        (
            lambda: client.delete("shop", (), 0, 0.0, "me", "", False),
            "keep: a number of versions or of days is needed",
        ),
        (lambda: client.delete("shop", [folder.name], 0, 0.0, "me", "", False), "it stays"),
        (lambda: client.activate("shop", folder.name, "", ""), "who: is empty"),
    ):
        with pytest.raises(CallFailed, match=told):
            call()
    client.deny("shoop", ["1"], "me", "", force=True)
    elsewhere = VersionClient(server.address)
    with pytest.raises(CallFailed, match="manages no versions; the admin address"):
        elsewhere.show()
    elsewhere.close()
    client.close()
    with pytest.raises(CallFailed, match="closed"):
        client.show()
    nobody = VersionClient("127.0.0.1:1", timeout_s=5)
    with pytest.raises(CallFailed, match="--address names the server's admin address"):
        nobody.show()
    nobody.close()
