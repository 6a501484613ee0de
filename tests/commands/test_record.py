from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from meshfold.commands.__main__ import main
from meshfold.service.recording import RecordingConfig
from meshfold.service.server import Server
from tests.compat.migration.conftest import ToldMesh, ask, mesh, request, seen, start

__all__ = ["mesh", "seen", "start"]


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["record", *words]) == 0
    return capsys.readouterr().out


def test_a_recording_is_made_and_read(
    start: Callable[..., Server],
    store: Path,
    mesh: ToldMesh,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "recorded"
    server = start(store, {"recording": RecordingConfig(folder=str(folder))})
    at = ("--address", server.admin_address)
    assert told(capsys, *at).startswith("recording is off\n")
    assert re.match(
        r"recording is on since 20\S+ \S+, me, tuning\n",
        told(capsys, "start", "--who", "me", "--why", "tuning", *at),
    )
    with grpc.insecure_channel(server.address) as channel:
        for user_id in range(1, 4):
            ask(channel, request(user_id))
    out = told(capsys, "stop", *at)
    assert f"3 records written and 0 dropped since the server started; 1 files of 0.0 MB in {folder}" in out
    assert json.loads(told(capsys, "show", "--json", *at))["written"] == 3

    assert re.search(r"shop +mesh +mesh +answer +0 +3 +\d", told(capsys, "read", str(folder)))
    (row,) = json.loads(told(capsys, "read", str(folder), "--json"))
    assert (row["side"], row["records"]) == ("mesh", 3)
    out = told(capsys, "read", str(folder), "--requests", str(tmp_path / "requests.bin"))
    assert out == f"3 requests in {tmp_path / 'requests.bin'}\n"


def test_words_that_mean_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["read"], ["begin"], ["stop", "now"]):
        with pytest.raises(SystemExit):
            main(["record", *words])
        assert "start, stop, or read and a folder expected" in capsys.readouterr().err


def test_the_callers_address_says_where_calls_are_recorded(
    start: Callable[..., Server], store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = start(store).address
    assert main(["record", "--address", address]) == 1
    assert f"{address} records no calls: the admin address does" in capsys.readouterr().err


def test_a_folder_without_records_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "read", str(tmp_path)]) == 1
    assert "holds no files of records" in capsys.readouterr().err
