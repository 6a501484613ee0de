"""Catalogs and interactions at the edges: each is trained, built and evaluated, or refused with a remedy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from meshfold.commands.__main__ import main

TINY = ("--dimension", "4", "--steps", "4", "--over-arch", "none", "--threads", "1")
FIELD = '[fields.genre]\nkind = "category"\n'
EVENTS = '[interactions]\nsource = "events.csv"\nuser = "user"\nitem = "item"\ntime = "time"\n'
VIEW = "[tasks.view]\n"


def written(
    folder: Path,
    items: Sequence[tuple[int, str]],
    events: Sequence[tuple[int, int, int]],
    fields: str = FIELD,
    tasks: str = VIEW,
) -> Path:
    """items: (id, genre). events: (user, item, time); their kind is always "view"."""
    folder.mkdir(exist_ok=True)
    (folder / "items.csv").write_text("id,genre\n" + "".join(f"{i},{g}\n" for i, g in items))
    rows = "".join(f"{u},{i},{t},view\n" for u, i, t in events)
    (folder / "events.csv").write_text("user,item,time,kind\n" + rows)
    schema = f'surface = "odd"\n[items]\nsource = "items.csv"\nid = "id"\n{fields}{EVENTS}{tasks}'
    (folder / "schema.toml").write_text(schema)
    return folder


def many(items: int, users: int, each: int) -> list[tuple[int, int, int]]:
    return [(u, (7 * u + 3 * k) % items + 1, 100 * u + k) for u in range(users) for k in range(each)]


def goods(n: int) -> list[tuple[int, str]]:
    return [(i + 1, f"g{i % 3}") for i in range(n)]


def trained(data: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[dict[str, Any], str]:
    """The metrics, and what was said on stderr."""
    out = data.with_name(f"{data.name}-model")
    assert main(["train", str(data), "--out", str(out), "--json", *TINY, *words]) == 0
    told = capsys.readouterr()
    return json.loads(told.out), told.err


def measured(data: Path, capsys: pytest.CaptureFixture[str]) -> tuple[list[dict[str, Any]], str]:
    """The rows of evaluate on a snapshot of the trained model, and what was said on stderr."""
    store = str(data.with_name(f"{data.name}-store"))
    model = str(data.with_name(f"{data.name}-model"))
    assert main(["build", str(data), "--model", model, "--store", store, "--iterations", "2"]) == 0
    capsys.readouterr()
    assert main(["evaluate", store, str(data), "--json"]) == 0
    told = capsys.readouterr()
    return [json.loads(line) for line in told.out.splitlines()], told.err


@pytest.mark.parametrize(
    ("items", "events", "fields", "is_measured"),
    [
        pytest.param(goods(30), many(30, 12, 5), "", True, id="no fields"),
        pytest.param(
            [(i, "") for i in range(1, 31)], many(30, 12, 5), FIELD, False, id="fields that hold nothing"
        ),
        pytest.param(
            [(i, "one") for i in range(1, 31)], many(30, 12, 5), FIELD, False, id="all of one value"
        ),
        pytest.param(
            [(i, f"g{i}") for i in range(1, 31)],
            many(30, 12, 5),
            FIELD,
            False,
            id="each of a value of its own",
        ),
        pytest.param(goods(3), many(3, 12, 3), FIELD, False, id="more dimensions than items"),
        pytest.param(goods(30), many(30, 1, 12), FIELD, True, id="one user"),
        pytest.param(
            goods(30), [*many(30, 12, 1), *many(30, 2, 4)], FIELD, False, id="most users with one interaction"
        ),
        pytest.param(
            goods(30), [(u, u % 2 + 1, u) for u in range(40)] * 2, FIELD, False, id="two items of thirty"
        ),
        pytest.param(
            goods(1), [(u, 1, t) for u in range(5) for t in (1, 2)], FIELD, True, id="one item, met twice"
        ),
    ],
)
def test_it_is_trained_built_and_measured(
    items: list[tuple[int, str]],
    events: list[tuple[int, int, int]],
    fields: str,
    is_measured: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = written(tmp_path / "odd", items, events, fields)
    metrics, _ = trained(data, capsys)
    assert set(metrics["rankings"]) >= {"popularity", "towers, exact", "towers, index"}
    if is_measured:
        rows, _ = measured(data, capsys)
        assert {row["task"] for row in rows} == {"view"}


@pytest.mark.parametrize(
    ("items", "events", "message"),
    [
        pytest.param(
            goods(1), [(u, 1, u) for u in range(5)], "no user has two interactions", id="one item, met once"
        ),
        pytest.param(
            goods(9), many(9, 9, 1), "no user has two interactions", id="users with one interaction"
        ),
        pytest.param(goods(9), [(u, 50 + u, u) for u in range(9)], "item", id="no interaction after joining"),
        pytest.param(goods(9), [], "no interactions to train on", id="no interactions"),
    ],
)
def test_it_is_refused_with_a_remedy(
    items: list[tuple[int, str]],
    events: list[tuple[int, int, int]],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = written(tmp_path / "odd", items, events)
    assert main(["train", str(data), "--out", str(tmp_path / "model"), *TINY]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert ";" in said, "what to do is told"
    assert not (tmp_path / "model").exists()


NOBODY = "[tasks.view]\n[tasks.buy]\nwhere = 'kind == \"buy\"'\n"


def test_a_task_that_nobody_did_is_told_and_not_shown_as_zeros(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path / "odd", goods(30), many(30, 12, 5), tasks=NOBODY)
    model = tmp_path / "odd-model"
    assert main(["train", str(data), "--out", str(model), *TINY]) == 0
    told = capsys.readouterr()
    assert told.err.count("meshfold: task buy: no interaction counts for it") == 1
    assert "task view" not in told.err
    shown = told.out.split("buy: held-out interactions of 0 users")[1].splitlines()
    line = next(text for text in shown if text.startswith("towers, exact"))
    assert line.split()[2:] == ["-"] * 6
    metrics = json.loads((model / "metrics.json").read_text())
    assert all(of_task["buy"] is None and of_task["view"] for of_task in metrics["rankings"].values())
    assert metrics["training"]["interactions"] == {"view": 60, "buy": 0}

    rows, said = measured(data, capsys)
    of_buy = [row for row in rows if row["task"] == "buy"]
    assert of_buy
    assert all(row["users"] == 0 and row["recall@50"] is None and row["p50_ms"] is None for row in of_buy)
    assert all(row["recall@50"] is not None for row in rows if row["task"] == "view")
    assert "task buy: no interaction counts for it" in said
    assert main(["evaluate", str(tmp_path / "odd-store"), str(data)]) == 0
    shown = capsys.readouterr().out.split("buy: held-out interactions of 0 users")[1].splitlines()
    line = next(text for text in shown if text.startswith("exact"))
    assert line.split() == ["exact", "similarity", "30", *["-"] * 8]


def test_a_task_done_only_before_the_held_out_part_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = "[tasks.view]\n[tasks.early]\nwhere = 'time < 3'\n"
    events = [(u, (7 * u + 3 * k) % 30 + 1, k) for u in range(12) for k in range(10)]
    data = written(tmp_path / "odd", goods(30), events, tasks=tasks)
    metrics, said = trained(data, capsys)
    assert metrics["rankings"]["ease"]["early"] is None
    assert "task early: nobody did it in the held-out part" in said


@pytest.mark.parametrize(("step", "told"), [(0, True), (1, False)])
def test_times_that_part_nothing_are_told(
    step: int, told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = [(u, (7 * u + 3 * k) % 30 + 1, step * k) for u in range(12) for k in range(10)]
    data = written(tmp_path / "odd", goods(30), events)
    word = "for 100% of the users the latest interactions are not told apart by time"
    metrics, said = trained(data, capsys)
    assert metrics["training"]["tied_cuts"] == float(told)
    assert (word in said) is told
    if told:
        assert word in measured(data, capsys)[1]
