import argparse
import json
import zipfile
from pathlib import Path

import pytest

from meshfold.commands import data
from meshfold.model.errors import InvalidData


def _run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    data.add(parser.add_subparsers())
    args = parser.parse_args(["data", *argv])
    status: int = args.run(args)
    return status


def test_a_generated_catalog(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "g"
    sizes = ("--items", "50", "--dimension", "4", "--users", "3", "--seed", "1")
    assert _run("generated", *sizes, "--out", str(out), "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["interactions"] >= 15
    del summary["interactions"]
    assert summary == {"path": str(out), "surface": "generated", "items": 50, "dimension": 4, "users": 3}
    assert (out / "schema.toml").is_file()


def test_movielens_from_a_file(
    tiny_movielens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(tmp_path / "small.zip", "w") as packed:
        for file in tiny_movielens.iterdir():
            packed.write(file, f"small/{file.name}")
    url = (tmp_path / "small.zip").as_uri()
    assert _run("movielens", "--url", url, "--out", str(tmp_path / "m")) == 0
    assert "MovieLens: 5 items, 7 interactions of 3 users" in capsys.readouterr().out


def test_an_error_reaches_the_one_place_that_tells_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="cannot be fetched"):
        _run("movielens", "--url", "http://127.0.0.1:1/x.zip", "--out", str(tmp_path / "m"))
    with pytest.raises(InvalidData, match="items must lie in 1"):
        _run("generated", "--items", "0", "--out", str(tmp_path / "g"))


@pytest.mark.parametrize("argv", [[], ["generated"], ["generated", "--items", "x", "--out", "g"], ["films"]])
def test_an_unknown_command_line_shows_the_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        _run(*argv)
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["generated"], ["movielens"]])
def test_help_has_an_example(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        _run(*argv, "--help")
    assert f"  meshfold data {' '.join(argv)}" in capsys.readouterr().out
