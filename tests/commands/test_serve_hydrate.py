from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from meshfold.commands.__main__ import main
from meshfold.compat.client import Client
from meshfold.model.types import Query
from tests.commands.test_serve import ready, run
from tests.compat.hydration.conftest import HISTORIES, users

__all__ = ["run", "users"]


def test_a_server_fills_users_in(run: Callable[..., subprocess.Popen[str]], store: Path, users: Path) -> None:
    file = users.with_name("hydrate.toml")
    file.write_text('[hydrate.shop]\nfile = "users.parquet"\n')
    process = run("--store", str(store), "--hydrate", str(file))
    _, address = ready(process)
    with Client(address) as client:
        found = client.retrieve(Query("shop", 5, user_id=7)).item_ids
        assert list(found) == list(client.retrieve(Query("shop", 5, history=HISTORIES[7])).item_ids)  # type: ignore[arg-type]
        assert list(found) != list(client.retrieve(Query("shop", 5)).item_ids)
    process.terminate()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def test_settings_that_do_not_fit_are_told_in_one_line(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "hydrate.toml"
    file.write_text('[hydrate.shop]\nfile = "none.parquet"\n')
    assert main(["serve", "--store", str(store), "--hydrate", str(file)]) == 1
    told = capsys.readouterr().err
    assert re.fullmatch(r"meshfold: the users of hydration are not loaded: \S+: No such file .*\n", told)
