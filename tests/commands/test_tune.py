from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshfold.commands.__main__ import main
from meshfold.kernels.native import library
from meshfold.kernels.search.tuning import Tuning, in_use, read_tuning, using
from meshfold.model.errors import InvalidConfig
from meshfold.service.server import Server

pytestmark = pytest.mark.skipif(library.levels() == ["reference"], reason="the kernels are not built here")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    with using(in_use()):
        yield


def test_it_shows_what_it_measured_and_writes_what_a_server_reads(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], start: Callable[..., Server]
) -> None:
    file = tmp_path / "tuning.toml"
    assert main(["tune", "--store", str(store), "--out", str(file), "--rounds", "1"]) == 0
    *table, settings, written = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["queries", "pass", "rate", "by", "batch", "before", "ms", "after", "ms"]
    assert len(table) == 1 + 28
    tuning = read_tuning(file)
    assert settings.startswith(
        f"filter_first = {tuning.filter_first:g}, gather = {tuning.gather:g}, scan_ahead = {tuning.scan_ahead:g}: "
    )
    assert written == f"{file}: written; serve with --tuning {file}"
    file.write_text("gather = 0.125\n")
    start(store, tuning=str(file))
    assert in_use() == Tuning(gather=0.125)


def test_without_a_file_it_only_shows(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--store", str(store), "--surface", "shop", "--rounds", "1"]) == 0
    assert "filter_first = " in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--surface", "other"], "holds no snapshot of surface 'other'; publish one with `meshfold build`"),
        (["--rounds", "0"], "--rounds must be at least 1, got 0"),
        (["--out", "/nowhere/tuning.toml"], "there is no folder /nowhere"),
    ],
)
def test_what_it_cannot_do_is_told_in_a_line(
    flags: list[str], said: str, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", "--store", str(store), *flags]) == 1
    assert capsys.readouterr().err.endswith(f"{said}\n")


def test_an_empty_store_has_nothing_to_measure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--store", str(tmp_path)]) == 1
    assert f"{tmp_path}: holds no snapshot; publish one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "tuning.toml cannot be read: No such file"),
        ("gather = -1", "gather must be a number, at least 0, got -1"),
    ],
)
def test_a_server_refuses_a_file_that_does_not_fit(
    text: str | None, said: str, store: Path, tmp_path: Path, start: Callable[..., Server]
) -> None:
    file = tmp_path / "tuning.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InvalidConfig, match=said):
        start(store, tuning=str(file))
    assert in_use() == Tuning()
