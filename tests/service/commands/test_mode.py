from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from meshfold.compat.client import Client
from meshfold.model.types import Query
from meshfold.service.__main__ import main
from meshfold.service.server import Server
from tests.service.commands.test_serve import ready, run

__all__ = ["run"]
Run = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def front(run: Run, served: Server, store: Path, tmp_path: Path) -> Callable[[], str]:
    """() -> the address of a process in front of another server, which is its mesh; each call starts one anew."""

    def front() -> str:
        state = ("--migration-state", str(tmp_path / "state" / "modes.json"))
        line, address = ready(run("--store", str(store), "--mesh", served.address, *state))
        assert f"in front of the mesh at {served.address}, serving shop version" in line
        return address

    return front


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["mode", *words]) == 0
    return capsys.readouterr().out


def test_modes_are_switched_shown_and_kept(
    front: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    address = front()
    assert re.search(r"\(default\) +mesh", told(capsys, "--address", address))
    out = told(capsys, "shop", "canary", "5", "--why", "try it", "--who", "me", "--address", address)
    assert re.search(r"shop +canary 5 % +20\S+ \S+ +me +try it", out)
    told(capsys, "default", "mirror", "--address", address)

    again = front()
    shown = json.loads(told(capsys, "show", "--json", "--address", again))
    assert (shown["generation"], shown["served"]) == (2, ["shop"])
    assert (shown["default"]["mode"], shown["surfaces"]["shop"]["percent"]) == ("mirror", 5)
    out = told(capsys, "kill", "--why", "empty answers", "--address", again)
    assert re.search(r"shop +mesh .*kill: empty answers", out)
    out = told(capsys, "shop", "default", "--address", again)
    assert "and as the default says: shop" in out
    with Client(again) as client:
        assert len(client.retrieve(Query("shop", 5)).item_ids) == 5


@pytest.mark.parametrize("words", [["shop"], ["shop", "half"], ["shop", "canary"], ["shop", "serve", "5"]])
def test_words_that_mean_nothing(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["mode", *words])
    assert caught.value.code == 2
    assert "canary with a percentage and the others without, or kill alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("percent", "said"),
    [("five", "a percentage such as 5 or 0.5 expected"), ("101", "from 0 to 100 expected")],
)
def test_a_percentage_that_is_none(percent: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["mode", "shop", "canary", percent])
    assert said in capsys.readouterr().err


def test_a_server_without_a_mesh_says_how_to_get_one(
    served: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mode", "--address", served.address]) == 1
    assert "in front of no mesh; `meshfold serve --mesh HOST:PORT` does" in capsys.readouterr().err
