"""`meshfold shadow` with bad input: one line that says what was expected, and nothing left behind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands.shadow_commands import line, shadow


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("", "expected pairs with answers of both sides, got nothing that can be compared"),
        (
            '{"request_id": "a", "side": "mesh", "item_ids": [1]}\n',
            "got 1 requests with one side's answer, such as 'a' of the mesh",
        ),
        (
            '{"request_id": "a", "mesh_item_ids": [null], "model_item_ids": [1]}\n',
            r"got nothing that can be compared \(rows with item ids that are null: 1, first at .*, row 1\.\)",
        ),
        ("x", "neither Parquet nor JSON lines"),
    ],
)
def test_no_pairs_are_an_error_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: str, expected: str
) -> None:
    (tmp_path / "a.jsonl").write_text(rows)
    assert shadow("compare", tmp_path / "a.jsonl", "--out", tmp_path / "out") == 1
    assert re.search(expected, line(capsys))
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


ONE = '{"request_id": "a", "mesh_item_ids": [1], "model_item_ids": [1]}\n'


@pytest.mark.parametrize(
    ("make", "words", "expected"),
    [
        (
            lambda p: (p / "out").write_text(""),
            ("a.jsonl", "--out", "out"),
            "out is there already and not empty",
        ),
        (lambda p: None, ("b.jsonl", "--out", "out"), "b.jsonl is not there"),
        (lambda p: None, ("a.jsonl", "--out", "a.jsonl/out"), "cannot be written: Not a directory"),
        (lambda p: None, ("a.jsonl", "--out", "out", "--store", "none"), "none cannot be read as a store"),
        (
            lambda p: None,
            ("a.jsonl", "--out", "out", "--rbo-p", "1"),
            "rbo_p must be a number over 0 and under 1",
        ),
        (lambda p: None, ("a.jsonl", "--out", "out", "--omit", "all"), "what is left out of pairs is one of"),
        (lambda p: None, ("a.jsonl", "--out", "out", "--key", "k"), "the key file k cannot be read"),
        (
            lambda p: None,
            (".", "--out", "out", "--surface", "x"),
            "expected pairs with answers of both sides",
        ),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], Any],
    words: tuple[str, ...],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text(ONE)
    make(tmp_path)
    assert shadow("compare", *words) == 1
    assert expected in line(capsys)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--out", "r"), "an INPUT is expected"),
        (("a", "--out", "r", "--audit"), "name it with --store"),
        (("a", "--out", "r", "--attribute", "-1"), "argument --attribute: at least 0 expected, got -1"),
    ],
)
def test_command_lines_that_mean_nothing(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], expected: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        shadow("compare", *words)
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"format": ', "comparison.json is no JSON or ends in the middle; compare the pairs again"),
        ("{}", 'comparison.json: expected an object with "format"'),
    ],
)
def test_a_report_of_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, expected: str
) -> None:
    (tmp_path / "comparison.json").write_text(content)
    assert shadow("report", tmp_path) == 1
    assert expected in line(capsys)
    assert shadow("report", tmp_path / "none") == 1
    assert "none is not there" in line(capsys)


def test_figures_that_are_made_take_no_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_text(ONE)
    out = tmp_path / "out"
    assert shadow("compare", tmp_path / "a.jsonl", "--out", out) == 0
    for words in (("--store", tmp_path), ("--rbo-p", "0.5"), ("--min-users", "2")):
        assert shadow("report", out, *words) == 1
        assert (
            f"has its figures already, so that --store and settings change nothing; name its pairs, {out}/pairs"
            in (line(capsys))
        )
    assert shadow("report", out / "pairs", "--rbo-p", "0.5") == 0


def test_surfaces_that_nobody_wants_are_counted_and_no_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(ONE) | {"request_id": name, "surface": name} for name in ("feed", "shop")]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert shadow("compare", tmp_path / "a.jsonl", "--surface", "shop", "--out", tmp_path / "out") == 0
    assert "pairs of other surfaces 1" in capsys.readouterr().out
