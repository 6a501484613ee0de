"""What servers dropped, counted beside the pairs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from meshfold.commands.__main__ import main
from meshfold.compat.shadow.live import drop_files
from meshfold.compat.shadow.live.drop_files import DropFile, dropped_in
from meshfold.compat.shadow.pair_files import read_pairs
from meshfold.compat.shadow.pair_writer import PairWriter
from meshfold.compat.shadow.pairs import Pair, SideAnswer
from tests.waiting import wait_until

RATE = "pairs that a server dropped, over comparison.pairs_per_s"


def test_servers_count_beside_each_other_and_the_report_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(drop_files, "_EVERY_S", 0.01)
    dropped = {"rate": 0, "of a newer server": 2}
    servers = [DropFile(tmp_path, 3600.0, lambda: dropped) for _ in range(2)]
    for server in servers:
        server.start()
    wait_until(lambda: len(list(tmp_path.glob("*.json"))) == 2)
    dropped["rate"] = 5
    for server in servers:
        server.stop()
    assert dropped_in(tmp_path) == {RATE: 10, "pairs that a server dropped, of a newer server": 4}
    writer = PairWriter(tmp_path)
    writer.append(Pair("1", "feed", mesh=SideAnswer((1, 2)), model=SideAnswer((1, 2))))
    writer.close()
    assert len(list(read_pairs(tmp_path))) == 1
    assert main(["shadow", "report", str(tmp_path)]) == 0
    assert f"{RATE} 10" in capsys.readouterr().out


def test_nothing_is_written_where_nothing_was_dropped(tmp_path: Path) -> None:
    server = DropFile(tmp_path / "pairs", 3600.0, dict)
    server.start()
    server.stop()
    assert not (tmp_path / "pairs").exists()


def test_old_files_go_and_damaged_ones_count_nothing(tmp_path: Path) -> None:
    old = tmp_path / "_drops-1-old.json"
    old.write_text('{"dropped": {"rate": 3}}')
    os.utime(old, (time.time() - 7200,) * 2)
    for name, content in (
        ("cut", '{"dropped"'),
        ("list", "[]"),
        ("odd", '{"dropped": {"rate": -4, "queue": "x"}}'),
    ):
        (tmp_path / f"_drops-2-{name}.json").write_text(content)
    assert dropped_in(tmp_path) == {RATE: 3}
    server = DropFile(tmp_path, 3600.0, dict)
    server.start()
    wait_until(lambda: not old.exists())
    server.stop()
    assert dropped_in(tmp_path) == {}
    assert dropped_in(tmp_path / "gone") == {}


def test_a_folder_that_cannot_be_written_is_told_and_costs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "pairs").write_text("a file")
    server = DropFile(tmp_path / "pairs", 3600.0, lambda: {"queue": 1})
    server.start()
    server.stop()
    assert "counts of dropped pairs could not be written" in caplog.text
