from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshfold.commands.__main__ import ADAPTERS, main
from meshfold.compat.version_service import operate
from meshfold.service.config import ServerConfig
from meshfold.service.server import Server
from tests.service.conftest import publish_items

__all__ = ["publish_items"]


@pytest.fixture
def folders(tmp_path: Path, publish_items: Callable[..., Path]) -> list[str]:
    """Names of the published, oldest first."""
    return [publish_items(tmp_path / "store", seed=seed).name for seed in range(4)]


@pytest.fixture
def operators(tmp_path: Path, folders: list[str]) -> Iterator[str]:
    """The address of operators of a server of the surface shop."""
    config = ServerConfig(
        address="127.0.0.1:0", store=tmp_path / "store", poll_interval_s=0.05, shutdown_grace_s=1.0
    )
    server = Server(config, ADAPTERS, operate=operate)
    server.start()
    yield server.admin_address
    server.stop()


@pytest.fixture
def told(operators: str, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def told(*words: str, status: int = 0) -> str:
        assert main([*words, "--address", operators]) == status
        out, error = capsys.readouterr()
        return out + error

    return told


def test_versions_are_shown_pinned_and_deleted(told: Callable[..., str], folders: list[str]) -> None:
    shown = json.loads(told("versions", "--json"))["surfaces"][0]
    assert [version["folder"] for version in shown["versions"]] == folders[::-1]
    assert shown["pin"] is None
    assert "loaded" in told("versions", "load", "shop", folders[0])
    text = told("versions", "rollback", "shop", "--why", "empty answers", "--who", "me")
    assert f"shop is pinned to {folders[2]} since" in text
    assert "(roll back: me, empty answers); `meshfold versions follow shop` ends it" in text
    assert "roll back" in told("versions", "--history")
    assert "1 version would be deleted" not in told("versions", "delete", "--keep", "1", "--dry-run")
    told("versions", "unload", "shop")
    assert "1 version would be deleted" in told("versions", "delete", "shop", "--keep", "2", "--dry-run")
    deleted = json.loads(told("versions", "delete", "shop", folders[0], "--json"))
    assert [version["folder"] for version in deleted["deleted"]] == [folders[0]]
    assert "is pinned" not in told("versions", "follow", "shop")
    assert "it stays" in told("versions", "delete", "shop", folders[3], status=1)


def test_items_are_denied_listed_and_allowed_again(told: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("12\r\n\n4711\n")
    text = told("deny", "11", "--file", str(tmp_path / "ids.txt"), "--why", "order", "--who", "me")
    assert "3 items denied on every surface; 3 denied in all" in text
    assert "no served catalog holds 4711; it stays denied if one ever does" in text
    lines = told("deny", "--list").splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["11", "12", "4711"]
    assert "none: no longer needed" in lines[4]
    assert "1 item may be answered again" in told("deny", "--undo", "11")
    listed = json.loads(told("deny", "--history", "--json"))
    assert [item["item_id"] for item in listed["items"]] == ["12", "4711"]
    assert [change["action"] for change in listed["history"]] == ["undo", "deny"]
    assert "deny" in told("deny", "--history", "5")
    assert "nothing.txt" in told("deny", "--file", str(tmp_path / "nothing.txt"), status=1)
    assert "no version of surface" in told("deny", "1", "--surface", "shoop", status=1)


@pytest.mark.parametrize(
    "words",
    [
        ["versions", "load", "shop"],
        ["versions", "delete", "shop"],
        ["versions", "delete", "shop", "abcd", "--keep", "3"],
        ["versions", "rollback"],
        ["versions", "--keep", "3"],
        ["versions", "rollback", "shop", "--history", "3"],
        ["versions", "--history", "0"],
        ["deny"],
        ["deny", "1", "--list"],
        ["deny", "--list", "--history"],
        ["deny", "--history", "1001"],
    ],
)
def test_words_that_mean_nothing_are_usage_errors(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*words, "--address", "127.0.0.1:1"])
    assert caught.value.code == 2
