"""Tasks that nobody did, or did again with items that were met before: what is learned of them, answered and told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from meshfold.commands.__main__ import main
from meshfold.model.snapshot import Snapshot
from meshfold.model.store import Store
from meshfold.model.types import Candidates, Query
from meshfold.service.runner import Runner

ITEMS, USERS = 60, 40
TRAIN = (
    "--dimension",
    "4",
    "--steps",
    "6",
    "--hidden",
    "6,4",
    "--candidates",
    "32",
    "--over-arch-steps",
    "2",
)
HEAD = """surface = "clips"
[items]
source = "items.csv"
id = "id"
[interactions]
source = "events.csv"
user = "user"
item = "item"
time = "time"
"""
STRINGS = HEAD.replace('"id"\n', '"id"\nids = "strings"\n', 1)
TASKS = "[tasks.view]\n[tasks.buy]\nwhere = 'kind == \"buy\"'\n"
NEVER = "[tasks.never]\nwhere = 'kind == \"never\"'\n"
Event = tuple[int, int, int, str]


def written(folder: Path, tasks: str, events: list[Event], head: str = HEAD) -> Path:
    folder.mkdir()
    (folder / "items.csv").write_text("id\n" + "".join(f"{p}\n" for p in range(ITEMS)))
    lines = "".join(",".join(map(str, event)) + "\n" for event in events)
    (folder / "events.csv").write_text("user,item,time,kind\n" + lines)
    (folder / "schema.toml").write_text(head + tasks)
    return folder


def events_of(kind_last: str = "view") -> list[Event]:
    """Each user meets 10 items of 60; of every third one that the user buys. kind_last: of each user's last."""
    events: list[Event] = []
    for user in range(USERS):
        met = np.random.default_rng(user).permutation(ITEMS)[:10].tolist()
        events += [(user, p, t, "buy" if p % 3 == 0 else "view") for t, p in enumerate(met[:-1])]
        events.append((user, met[-1], 9, kind_last))
    return events


def trained(data: Path, model: Path, *words: str) -> dict[str, object]:
    assert main(["train", str(data), "--out", str(model), *TRAIN, *words]) == 0
    told: dict[str, object] = json.loads((model / "metrics.json").read_text())["training"]
    return told


def runner_of(data: Path, model: Path, store: Path) -> Runner:
    assert main(["build", str(data), "--model", str(model), "--store", str(store), "--iterations", "1"]) == 0
    return Runner(Snapshot.open(Store(store).published("clips")[0]), "cpu")


def answer(runner: Runner, user: int, **weights: float) -> Candidates:
    history = np.random.default_rng(user).permutation(ITEMS)[:5].astype(np.int64)
    query = Query("clips", 40, history=history, task_weights=weights)
    return runner.run([runner.prepare(query)])[0]


@pytest.mark.parametrize(("place", "over_arch"), [(0, "none"), (1, "mlp"), (2, "mol")])
def test_a_task_that_nobody_did_decides_no_order(
    place: int, over_arch: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = TASKS.replace("[tasks.buy]", "|[tasks.buy]").split("|")
    parts.insert(place, NEVER)
    data = written(tmp_path / "data", "".join(parts), events_of())
    told = trained(data, tmp_path / "model", "--over-arch", over_arch)
    assert told["untaught"] == ["never"]
    assert capsys.readouterr().err.count("task never: no interaction counts for it") == 1
    # Far from where all heads begin.
    on = ("--from", str(tmp_path / "model"), "--steps", "20", "--learning-rate", "0.05")
    assert trained(data, tmp_path / "newer", *on)["untaught"] == ["never"]
    runner = runner_of(data, tmp_path / "newer", tmp_path / "store")
    for user in range(5):
        found = answer(runner, user)
        scores = {name: found.task_scores[:, k] for k, name in enumerate(found.tasks)}
        assert list(scores).index("never") == place
        mean = (scores["view"] + scores["buy"]) / 2
        np.testing.assert_allclose(scores["never"], mean, rtol=1e-3, atol=1e-3 * np.abs(mean).max())
        if over_arch == "none":
            largest = np.maximum(scores["view"], scores["buy"])
            np.testing.assert_allclose(found.similarities, largest, rtol=1e-3, atol=1e-3)
        else:
            done = answer(runner, user, view=1.0, buy=1.0)
            assert list(found.item_ids) == list(done.item_ids)


FIRST = '[tasks.first]\nwhere = "time == 0"\n'
LAST = '[tasks.last]\nwhere = "time == 9"\n'


@pytest.mark.parametrize(
    ("tasks", "untaught", "told"),
    [
        pytest.param(TASKS, [], [], id="none"),
        pytest.param(TASKS + NEVER + NEVER.replace("never", "skip"), ["never", "skip"], [], id="two"),
        pytest.param(TASKS + FIRST, ["first"], ["first"], id="done as a first interaction alone"),
        pytest.param(TASKS + LAST, ["last"], ["last"], id="done in the held-out part alone"),
        pytest.param(NEVER, ["never"], [], id="no other task"),
        pytest.param(NEVER + LAST, ["never", "last"], ["last"], id="all tasks"),
    ],
)
def test_tasks_of_which_nothing_is_learned_are_told(
    tasks: str, untaught: list[str], told: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path / "data", tasks, events_of())
    assert trained(data, tmp_path / "model", "--over-arch", "none")["untaught"] == untaught
    said = capsys.readouterr().err
    for task in ("view", "buy", "never", "skip", "first", "last"):
        assert (f"task {task}: nobody did it before the held-out part and after" in said) is (task in told)
    others = "it gives the mean of the other tasks"
    assert (others in said) is bool(told and len(untaught) < tasks.count("[tasks."))
    found = answer(runner_of(data, tmp_path / "model", tmp_path / "store"), 0)
    assert np.isfinite(found.values).all()
    assert found.values[0] > found.values[-1]


def test_a_task_is_learned_once_somebody_did_it(tmp_path: Path) -> None:
    first = written(tmp_path / "first", TASKS + NEVER, events_of())
    model, newer = tmp_path / "model", tmp_path / "newer"
    trained(first, model)
    events = [(u, p, t, "never" if t == 5 else kind) for u, p, t, kind in events_of()]
    second = written(tmp_path / "second", TASKS + NEVER, events)
    assert trained(second, newer, "--from", str(model))["untaught"] == []
    # What was learned once stays, though nobody does it in the data of the day.
    assert trained(first, tmp_path / "newest", "--from", str(newer))["untaught"] == []
    assert answer(runner_of(second, newer, tmp_path / "store"), 0).tasks == ("view", "buy", "never")


def again(kind: str) -> list[Event]:
    """Each user comes back to the items of the first half, in the second half and in the held-out part."""
    events: list[Event] = []
    for user in range(USERS):
        met = np.random.default_rng(user).permutation(ITEMS)[:6].tolist()
        events += [(user, p, t, "view") for t, p in enumerate(met)]
        events += [(user, p, 6 + t, kind) for t, p in enumerate(met)]
    return events


@pytest.mark.parametrize(
    ("tasks", "events", "head", "repeated"),
    [
        pytest.param("[tasks.view]\n", again("view"), HEAD, ["view"], id="one task"),
        pytest.param(TASKS, again("buy"), HEAD, ["buy", "view"], id="a task that is a part of another"),
        pytest.param(TASKS + NEVER, again("buy"), HEAD, ["buy", "view"], id="beside a task that nobody did"),
        pytest.param(
            "[tasks.view]\n" + LAST,
            [*again("view"), *((u, ITEMS - 1, 12, "view") for u in range(USERS))],
            HEAD,
            [],
            id="some are not repeats",
        ),
        pytest.param(
            TASKS, again("buy"), "exclude_history = false\n" + HEAD, [], id="results hold the history"
        ),
        pytest.param("[tasks.view]\n", again("view"), STRINGS, ["view"], id="string ids"),
    ],
)
def test_repeats_are_told_as_what_they_are(
    tasks: str,
    events: list[Event],
    head: str,
    repeated: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = written(tmp_path / "data", tasks, events, head)
    model, store = tmp_path / "model", tmp_path / "store"
    trained(data, model, "--over-arch", "none")
    assert main(["build", str(data), "--model", str(model), "--store", str(store), "--iterations", "1"]) == 0
    of_train = capsys.readouterr().err
    assert main(["evaluate", str(store), str(data), "--users", "5", "--candidates", "256"]) == 0
    of_evaluate = capsys.readouterr().err
    for said in (of_train, of_evaluate):
        for task in ("view", "buy", "never"):
            assert (f"task {task}: users had met all of their" in said) is (task in repeated)
        if repeated:
            assert "set exclude_history = false where people come back to items" in said
            assert not any(f"task {task}: nobody did it" in said for task in repeated)
