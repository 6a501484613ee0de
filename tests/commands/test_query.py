from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meshfold.commands.__main__ import main
from meshfold.service.server import Server

Ask = Callable[..., Any]


@pytest.fixture
def ask(served: Server, capsys: pytest.CaptureFixture[str]) -> Ask:
    """(flags) -> what `meshfold query --json` says."""

    def ask(*flags: str) -> Any:
        assert main(["query", "--address", served.address, "--json", *flags]) == 0
        return json.loads(capsys.readouterr().out)

    return ask


FEATURES = """
surface = "shop"
[items]
source = "items.parquet"
id = "id"
vector = "vector"
[inputs]
country.kind = "strings"
ages = { kind = "ints", length = 2 }
clock = { kind = "floats", length = 2 }
[tasks.like]
[weights]
age = { default = 0.0, min = -1.0, max = 1.0 }
[formulas]
default = "recent"
recent = "like + weights.age * features.hour"
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of a surface that declares features of requests, and whose formula reads one more."""
    folder = tmp_path_factory.mktemp("shop")
    table = pa.table({"id": [1, 2, 3], "vector": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]})
    pq.write_table(table, folder / "items.parquet")
    (folder / "schema.toml").write_text(FEATURES)
    assert main(["build", str(folder), "--store", str(folder / "store")]) == 0
    return folder / "store"


@pytest.fixture
def ask_shop(capsys: pytest.CaptureFixture[str]) -> Ask:
    """(server, flags) -> what `meshfold query --json` says."""

    def ask_shop(server: Server, *flags: str) -> Any:
        assert main(["query", "--address", server.address, "--json", *flags]) == 0
        return json.loads(capsys.readouterr().out)

    return ask_shop


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


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--user", "1"], "history: is empty, and callers keep histories: nothing is known of the user"),
        (["--user", "AE22"], "give one with --history"),
        ([], "nothing is known of the user"),
        (["--history", "999,10"], "history: 1 of 2 items are not in the catalog: 999\n"),
        (
            ["--history", "999,998"],
            "history: none of its items is in the catalog: 999, 998; nothing is known",
        ),
        (
            ["--history", "10", "--filter", 'language == "DE"'],
            'no item has "DE" in language; did you mean "de"?',
        ),
        (["--history", "10", "--filter", 'language in ["de", "EN"]'], 'did you mean "en"?'),
        (
            ["--history", "10", "--filter", "year > 3000"],
            "in this range of year, whose values lie between 1901",
        ),
        (["--history", "10", "--filter", "year == 1500"], "no item has 1500 in year"),
        (["--history", "10", "--filter", "year < 1950 && year > 1990"], "filter: no item passes all of it"),
        (["--history", "10", "--feature", "huor=8"], 'features["huor"]: neither tower nor formula reads it'),
    ],
)
def test_what_nothing_knows_is_said_under_the_answer(
    served: Server, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert main(["query", "--address", served.address, *flags]) == 0
    told = capsys.readouterr()
    assert said in told.out
    assert told.err == ""


@pytest.mark.parametrize(
    "flags",
    [
        ["--history", "10,20"],
        ["--history", "10,20", "--filter", 'language == "de" && !(language == "en")'],
        ["--history", "10,20", "--filter", "year > 1950 || !has(year)"],
    ],
)
def test_what_is_known_needs_no_note(
    served: Server, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    assert main(["query", "--address", served.address, *flags, "--max-results", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_notes_come_as_json_without_explain(ask: Ask) -> None:
    answer = ask("--filter", 'language == "DE"')
    assert answer["items"] == []
    assert answer["explain"] == {}
    assert set(answer["notes"]) == {"history", "filter.match"}
    assert ask("--filter", 'language == "DE"', "--explain")["explain"]["eligible"] == "0"


def test_features_that_nothing_reads_are_told(shop: Path, start: Ask, ask_shop: Ask) -> None:
    server = start(shop)
    given = ("--history=1", "--feature", "hour=8", "--feature", "contry=de", "--feature", "age=5")
    near = "neither tower nor formula reads it; did you mean "
    assert ask_shop(server, *given)["notes"] == {
        'features["contry"]': near + "'country'?",
        'features["age"]': near + "'ages'?",
    }
    unread = ask_shop(server, "--history=1", "--feature", "clock=0.5", "--feature", "clock=1")["notes"]
    assert unread == {'features["clock"]': "is declared, but this snapshot has no user tower that reads it"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--feature", "country=5"], "country:KIND=VALUE names the kind"),
        (["--feature", "clock=5"], 'features["clock"]: is declared as floats'),
        (["--feature", "ages=x"], 'features["ages"]: is declared as ints'),
    ],
)
def test_a_feature_of_another_kind_names_the_remedy(
    shop: Path,
    start: Ask,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    said: str,
) -> None:
    server = start(shop)
    assert main(["query", "--address", server.address, *flags]) == 1
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert ":KIND=VALUE names the kind" in told


def test_strings_at_a_surface_of_integers_are_told(
    served: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["query", "--address", served.address, "--history", "vid_1"]) == 1
    assert "the item ids of this surface are integers" in capsys.readouterr().err


def test_no_server_says_how_to_start_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "--address", "127.0.0.1:1"]) == 1
    assert "meshfold serve" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--history", '1,"x'], "item ids with commas"),
        (["--history", "99999999999999999999"], "integers from -2^63"),
        (["--feature", "hour"], "NAME=VALUE expected"),
        (["--feature", "hour:ints=x"], "feature hour holds ints, got 'x'"),
        (["--user", "1,2"], "the id of one user"),
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
