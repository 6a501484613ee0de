from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meshfold.service.__main__ import main
from meshfold.service.server import Server

Ask = Callable[..., Any]


@pytest.fixture
def ask(served: Server, capsys: pytest.CaptureFixture[str]) -> Ask:
    """(flags) -> what `meshfold query --json` says."""

    def ask(*flags: str) -> Any:
        assert main(["query", "--address", served.address, "--json", *flags]) == 0
        return json.loads(capsys.readouterr().out)

    return ask


def ids(answer: Any) -> list[int]:
    return [item["item_id"] for item in answer["items"]]


def test_a_table_shows_every_field(served: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "--address", served.address, "--history", "10,20", "--max-results", "3"]) == 0
    title, columns, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("3 results from version ")
    assert columns.split() == ["item", "title", "language", "year", "value", "similarity", "like", "watch"]
    assert len(rows) == 3
    assert "shop 0." in rows[0]


def test_what_is_asked_for_is_what_comes(ask: Ask) -> None:
    answer = ask(
        "--surface=shop",
        "--history=10,20",
        "--user=7",
        "--filter=language in ['de', 'es'] && year >= 1950",
        "--max-results=50",
        "--exclude=100,101",
        "--max-per=language=3",
        "--fields=language,year",
        "--weights",
        "like=0.25",
        "watch=1",
        "--formula=weighted",
        "--explain",
    )
    fields = [item["fields"] for item in answer["items"]]
    assert sorted(f["language"][0] for f in fields) == ["de"] * 3 + ["es"] * 3
    assert all(list(f) == ["language", "year"] and f["year"][0] >= 1950 for f in fields)
    assert list(answer["items"][0]["task_scores"]) == ["like", "watch"] == answer["tasks"]
    for item in answer["items"]:
        scores = item["task_scores"]
        assert item["value"] == pytest.approx(0.25 * scores["like"] + scores["watch"], rel=1e-5, abs=1e-6)
    assert answer["explain"]
    assert not {10, 20, 100, 101} & set(ids(answer))


def test_a_field_that_an_item_lacks_is_empty(ask: Ask) -> None:
    answer = ask("--filter", "!has(year)", "--max-results", "4")
    assert [item["fields"]["year"] for item in answer["items"]] == [[]] * 4


def test_vectors_come_from_files(ask: Ask, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    like, watch = rng.standard_normal((2, 8)).astype(np.float32)
    np.save(tmp_path / "like.npy", like)
    np.savetxt(tmp_path / "watch.txt", watch)
    both = ask("--vector", str(tmp_path / "like.npy"), str(tmp_path / "watch.txt"))
    one = ask("--vector", str(tmp_path / "like.npy"))
    assert ids(one) != ids(both)
    assert one["items"][0]["task_scores"]["like"] == one["items"][0]["task_scores"]["watch"]


def test_explain_is_shown(served: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "--address", served.address, "--explain"]) == 0
    assert "pass_rate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--filter", "year >="], "meshfold: filter"),
        (["--filter", "yaer == 1"], "year"),
        (["--fields", "tilte"], "did you mean 'title'?"),
        (["--surface", "shp"], "did you mean 'shop'?"),
        (["--formula", "x"], "formula"),
        (["--max-results", "0"], "max_results: must be 1 to"),
        (["--max-results", "99999999999"], "max_results"),
    ],
)
def test_what_the_server_refuses_is_one_line(
    served: Server, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert main(["query", "--address", served.address, *flags]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("meshfold: ")
    assert errors.count("\n") == 1
    assert said in errors


def test_no_server_says_how_to_start_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "--address", "127.0.0.1:1"]) == 1
    assert "meshfold serve" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--history", "1,x"], "item ids with commas"),
        (["--history", "99999999999999999999"], "item ids with commas"),
        (["--weights", "like"], "TASK=WEIGHT"),
        (["--max-per", "language"], "FIELD=N"),
        (["--timeout", "nan"], "less than a day"),
        (["--vector", "missing.npy"], "missing.npy holds no vector"),
    ],
)
def test_what_is_no_command_line_of_ours_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["query", *flags])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err
