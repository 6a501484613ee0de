import argparse
import json
from dataclasses import fields
from pathlib import Path

import pytest

from meshfold.commands import train
from meshfold.model.errors import InvalidConfig
from meshfold.model.train.config import TrainConfig

TINY = ("--dimension", "2", "--steps", "2", "--hidden", "4,2", "--over-arch", "none")


def _parse(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    train.add(parser.add_subparsers())
    return parser.parse_args(["train", *argv])


def _run(*argv: str) -> int:
    args = _parse(*argv)
    status: int = args.run(args)
    return status


def test_the_model_is_written_and_its_metrics_are_told(
    tiny_movielens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    assert _run(str(tiny_movielens), "--out", str(out), "--json", *TINY) == 0
    told = json.loads(capsys.readouterr().out)
    assert told.pop("path") == str(out)
    assert told == json.loads((out / "metrics.json").read_text())
    assert told["training"]["config"]["hidden"] == [4, 2]


def test_a_table_a_task(tiny_movielens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run(str(tiny_movielens), "--out", str(tmp_path / "model"), *TINY)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("popularity") for line in lines) == 2
    assert any("ndcg@100" in line for line in lines)
    assert not any(line.startswith("over_arch") for line in lines)


def test_every_setting_has_a_flag_with_its_default() -> None:
    args = _parse("data", "--out", "model")
    assert TrainConfig(**{f.name: getattr(args, f.name) for f in fields(TrainConfig)}) == TrainConfig()


def test_a_setting_out_of_bounds_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="held_out must be a number between"):
        _run(str(tmp_path / "nowhere"), "--out", str(tmp_path / "model"), "--held-out", "0.9")


def test_widths_are_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parse("data", "--out", "model", "--hidden", "wide")
    assert "--hidden" in capsys.readouterr().err
