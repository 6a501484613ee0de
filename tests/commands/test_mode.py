from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshfold.commands import mode
from meshfold.commands.__main__ import main
from meshfold.compat.client import Client
from meshfold.compat.migration.migration_service import MigrationService
from meshfold.compat.migration.mode_file import ModeFile
from meshfold.compat.migration.mode_switch import ModeSwitch
from meshfold.model.types import Query
from meshfold.service.config import ServerConfig
from meshfold.service.server import Server
from tests.commands.test_serve import ready, run
from tests.compat.migration.operators import serving

__all__ = ["run"]
Run = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def front(run: Run, served: Server, store: Path, tmp_path: Path) -> Callable[[], tuple[str, str]]:
    """() -> the addresses, of callers and of operators, of a process in front of another server, which is its mesh;
    each call starts one more."""

    def front() -> tuple[str, str]:
        state = ("--migration-state", str(tmp_path / "state" / "modes.json"))
        process = run("--store", str(store), "--mesh", served.address, *state)
        line, address = ready(process)
        assert f"in front of the mesh at {served.address}, serving shop version" in line
        assert process.stdout is not None
        found = re.match(r"operators at (\S+)\n", process.stdout.readline())
        assert found
        return address, found[1]

    return front


@pytest.fixture
def operators(tmp_path: Path) -> Iterator[str]:
    """The address of operators of a server of the surface shop."""
    switch = ModeSwitch(ModeFile(tmp_path / "modes.json"))
    switch.start()
    with serving(MigrationService(switch, "mesh.example:1", lambda: ("shop",)).answers) as address:
        yield address
    switch.stop()


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["mode", *words]) == 0
    return capsys.readouterr().out


def test_modes_are_switched_shown_kept_and_followed(
    front: Callable[[], tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, admin = front()
    assert re.search(r"\(default\) +mesh", told(capsys, "--address", admin))
    out = told(capsys, "shop", "canary", "5", "--why", "try it", "--who", "me", "--address", admin)
    assert re.search(r"shop +canary 5 % +20\S+ \S+ +me +try it", out)
    told(capsys, "default", "mirror", "--address", admin)

    address, again = front()
    shown = json.loads(told(capsys, "show", "--json", "--address", again))
    assert (shown["generation"], shown["served"], shown["trouble"]) == (2, ["shop"], "")
    assert (shown["default"]["mode"], shown["surfaces"]["shop"]["percent"]) == ("mirror", 5)
    out = told(capsys, "kill", "--why", "empty answers", "--address", again)
    assert re.search(r"shop +mesh .*kill: empty answers", out)
    # The first process follows.
    end_s = time.monotonic() + 10
    while not json.loads(told(capsys, "--json", "--address", admin))["default"]["kill"]:
        assert time.monotonic() < end_s
    out = told(capsys, "shop", "default", "--address", again)
    assert "and as the default says: shop" in out
    with Client(address) as client:
        assert len(client.retrieve(Query("shop", 5)).item_ids) == 5

    assert main(["mode", "--address", address]) == 1
    assert f"{address} switches no modes: the admin address does" in capsys.readouterr().err


def test_a_surface_with_a_typing_error_is_refused_unless_it_is_forced(
    operators: str, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ("--address", operators)
    assert main(["mode", "shpo", "mesh", *at]) == 1
    assert "'shpo' is not served and has no mode" in capsys.readouterr().err
    assert re.search(r"shpo +mesh", told(capsys, "shpo", "mesh", "--force", *at))


def test_the_history_has_as_many_changes_as_are_asked_for(
    operators: str, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ("--address", operators)
    for i in range(12):
        told(capsys, "shop", "canary", str(i), "--why", f"step {i}.", *at)
    assert told(capsys, *at).count("step") == 1 + 10
    out = told(capsys, "--history", *at)
    assert re.findall(r"step \d+", out) == [f"step {i}" for i in range(11, -1, -1)]
    assert told(capsys, "--history", "3", *at).count("step") == 3
    assert len(json.loads(told(capsys, "--history", "3", "--json", *at))["history"]) == 3
    for words in (["--history", "0"], ["--history", "1001"], ["kill", "--history", "5"]):
        with pytest.raises(SystemExit):
            main(["mode", *words, *at])
        assert "--history shows 1 to 1000 changes" in capsys.readouterr().err


def test_what_is_wrong_with_the_file_is_told(
    operators: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told(capsys, "shop", "serve", "--address", operators)
    (tmp_path / "modes.json").unlink()
    (tmp_path / "modes.json").mkdir()
    assert main(["mode", "kill", "--address", operators]) == 1
    assert "the mesh answers everything here now" in capsys.readouterr().err
    assert main(["mode", "--address", operators]) == 0
    shown = capsys.readouterr()
    assert re.search(r"shop +mesh +.*kill:", shown.out)
    assert "a kill is in effect here that is not durable yet" in shown.err


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
    for address in (served.address, served.admin_address):
        assert main(["mode", "--address", address]) == 1
        assert "of a server in front of a mesh (`meshfold serve --mesh HOST:PORT`)" in capsys.readouterr().err


def test_the_default_address_is_the_one_after_the_callers() -> None:
    host, _, port = ServerConfig().address.rpartition(":")
    assert f"{host}:{int(port) + 1}" == mode.ADMIN_ADDRESS
