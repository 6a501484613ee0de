"""A daily refresh by commands: a new catalog with the same model, then new interactions from the model on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from meshfold.commands.__main__ import main
from meshfold.model.snapshot import OVER_ARCH, PROGRAMS, Snapshot
from meshfold.model.store import Store
from meshfold.model.types import Candidates, Query
from meshfold.service.runner import Runner

ITEMS, GENRES, USERS = 120, 4, 60
TRAIN = (
    "--dimension",
    "6",
    "--steps",
    "20",
    "--hidden",
    "8,4",
    "--candidates",
    "32",
    "--over-arch-steps",
    "3",
)
SCHEMA = """surface = "clips"
[items]
source = "items.csv"
id = "id"
[fields.genre]
kind = "category"
[fields.name]
kind = "text"
[interactions]
source = "events.csv"
user = "user"
item = "item"
time = "time"
[tasks.view]
"""


def written(folder: Path, items: Iterable[int], prefix: str, late: bool = False) -> Path:
    """Items p of genre p % GENRES; each user keeps to one genre. late: with interactions that came later."""
    items = sorted(items)
    folder.mkdir()
    lines = "".join(f"{prefix}{p},g{p % GENRES},clip\n" for p in items)
    (folder / "items.csv").write_text("id,genre,name\n" + lines)
    rng = np.random.default_rng(0)
    events = []
    for user in range(USERS):
        own = [p for p in range(ITEMS) if p % GENRES == user % GENRES]
        met = [*rng.permutation(own)[:10].tolist()]
        met += [ITEMS + (user % GENRES), ITEMS + 4 + (user % GENRES)] if late else []
        events += [f"{user},{prefix}{p},{time}\n" for time, p in enumerate(met) if p in items]
    (folder / "events.csv").write_text("user,item,time\n" + "".join(events))
    (folder / "schema.toml").write_text(SCHEMA)
    return folder


def answer_of(store: Path, prefix: str, genre: int, results: int = 40) -> Candidates:
    """What the newest snapshot answers to a history of one genre."""
    runner = Runner(Snapshot.open(Store(store).published("clips")[0]), "cpu")
    met = [p for p in range(40, ITEMS) if p % GENRES == genre][:6]
    history = tuple(f"{prefix}{p}" for p in met) if prefix else np.array(met, np.int64)
    return runner.run([runner.prepare(Query("clips", results, history=history))])[0]


@pytest.mark.parametrize("prefix", ["", "clip-"])
def test_a_day(prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, model, newer = tmp_path / "store", tmp_path / "model", tmp_path / "newer"
    first = written(tmp_path / "first", range(ITEMS), prefix)
    # Strings differ in how items are joined, not in what OverArch does.
    plain = ("--over-arch", "none") if prefix else ()
    assert main(["train", str(first), "--out", str(model), *TRAIN, *plain]) == 0
    assert main(["build", str(first), "--model", str(model), "--store", str(store), "--iterations", "2"]) == 0
    said = capsys.readouterr().out
    assert "new to the model" not in said
    assert "were dropped" not in said

    # Eight items came, eight of the oldest left; the model is the same.
    second = written(tmp_path / "second", range(8, ITEMS + 8), prefix)
    words = ["build", str(second), "--model", str(model), "--store", str(store), "--iterations", "2"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "8 items are new to the model and got vectors: 8 from their fields" in said
    assert "8 items of the model are not in the catalog any more and were dropped" in said
    for genre in range(GENRES):
        found = [str(i).removeprefix(prefix) for i in answer_of(store, prefix, genre).item_ids]
        assert not {str(p) for p in range(8)} & set(found), "what left is gone"
        ranks = {p: found.index(str(p)) for p in range(ITEMS, ITEMS + 8) if str(p) in found}
        own = [p for p in range(ITEMS, ITEMS + 8) if p % GENRES == genre]
        # 24 items of the genre that the history does not hold come before the others.
        assert all(ranks[p] < 26 for p in own)
        assert all(rank > 20 for p, rank in ranks.items() if p not in own)

    # Users met them; the model goes on from where it is.
    third = written(tmp_path / "third", range(8, ITEMS + 8), prefix, late=True)
    words = ["train", str(third), "--from", str(model), "--out", str(newer), "--steps", "5", "--json"]
    assert main(words) == 0
    training = json.loads(capsys.readouterr().out)["training"]
    assert (training["newcomers"], training["left"]) == (8, 8)
    assert training["config"]["dimension"] == 6
    assert training["config"]["hidden"] == [8, 4]
    assert sorted(p.name for p in newer.iterdir()) == sorted(p.name for p in model.iterdir())
    words = ["build", str(third), "--model", str(newer), "--store", str(store), "--iterations", "2"]
    assert main(words) == 0
    assert "new to the model" not in capsys.readouterr().out
    snapshot = Snapshot.open(Store(store).published("clips")[0])
    assert snapshot.content.items == ITEMS
    assert all(snapshot.program(name) or (prefix and name == OVER_ARCH) for name in PROGRAMS)


def test_newcomers_with_interactions_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = written(tmp_path / "first", range(ITEMS), "")
    second = written(tmp_path / "second", range(ITEMS + 12), "", late=True)
    model = str(tmp_path / "model")
    assert main(["train", str(first), "--out", model, *TRAIN, "--over-arch", "none"]) == 0
    words = ["build", str(second), "--model", model, "--store", str(tmp_path / "store"), "--json"]
    capsys.readouterr()
    assert main(words) == 0
    built = json.loads(capsys.readouterr().out)["built"]
    assert built["catalog_changes"] == {"new_items": 12, "new_items_met": 8, "items_left": 0}


def test_what_does_not_fit_the_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = written(tmp_path / "first", range(ITEMS), "")
    model, out = tmp_path / "model", str(tmp_path / "newer")
    assert main(["train", str(first), "--out", str(model), *TRAIN, "--over-arch", "none"]) == 0
    begin = ["train", str(first), "--out", out, "--from"]
    for words, message in (
        ([str(tmp_path / "nowhere")], "holds no weights.safetensors and metrics.json to start from"),
        ([str(model), "--dimension", "12"], "--dimension 12: the model that --from names has 6"),
        ([str(model), "--over-arch", "mol"], "--over-arch mol: the model that --from names has none"),
    ):
        assert main([*begin, *words]) == 1
        assert message in capsys.readouterr().err
    (first / "schema.toml").write_text(SCHEMA + "[tasks.like]\n")
    assert main([*begin, str(model)]) == 1
    assert (
        "a model of surface clips, tasks view, the data is of surface clips, tasks view, like"
        in capsys.readouterr().err
    )
    (first / "schema.toml").write_text(SCHEMA)
    other = written(tmp_path / "other", range(1000, 1000 + ITEMS), "")
    assert main(["build", str(other), "--model", str(model), "--store", str(tmp_path / "store")]) == 1
    assert "none of its 120 items is in the catalog of 120" in capsys.readouterr().err
    (model / "weights.safetensors").write_bytes(b"x" * 100)
    assert main([*begin, str(model)]) == 1
    assert "cannot be started from" in capsys.readouterr().err
