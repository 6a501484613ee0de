"""A model folder and data whose schema has changed since the training: what is refused, and what goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv
from safetensors import safe_open
from safetensors.torch import save_file

from meshfold.commands.__main__ import main

ITEMS, USERS = 60, 30
TRAIN = (
    "--dimension",
    "4",
    "--steps",
    "4",
    "--hidden",
    "6,4",
    "--candidates",
    "32",
    "--over-arch-steps",
    "2",
)
ITEM_FIELDS = """[fields.year]
kind = "integer"
[fields.genre]
kind = "category"
[fields.price]
kind = "number"
[fields.name]
kind = "text"
"""
INTERACTIONS = """[interactions]
source = "events.csv"
user = "user"
item = "item"
time = "time"
"""
TASKS = "[tasks.view]\n[tasks.buy]\nwhere = \"kind == 'buy'\"\n"
INPUTS = '[inputs.country]\nkind = "strings"\nlength = 1\n'
HEAD = 'surface = "clips"\n[items]\nsource = "items.csv"\nid = "id"\n'
SCHEMA = HEAD + ITEM_FIELDS + INTERACTIONS + TASKS + INPUTS


def written(folder: Path, items: int = ITEMS) -> Path:
    folder.mkdir()
    lines = "".join(f"{p},{1990 + p % 20},g{p % 3},{p % 7}.5,clip\n" for p in range(items))
    (folder / "items.csv").write_text("id,year,genre,price,name\n" + lines)
    random = np.random.default_rng(0)
    events = [
        f"{user},{p},{time},{'buy' if p % 2 else 'view'}\n"
        for user in range(USERS)
        for time, p in enumerate(random.permutation(ITEMS)[:8].tolist())
    ]
    (folder / "events.csv").write_text("user,item,time,kind\n" + "".join(events))
    (folder / "schema.toml").write_text(SCHEMA)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of towers alone, and with an OverArch."""
    folder = tmp_path_factory.mktemp("models")
    data = written(folder / "data")
    for name in ("none", "mlp"):
        assert main(["train", str(data), "--out", str(folder / name), *TRAIN, "--over-arch", name]) == 0
    return {name: folder / name for name in ("none", "mlp")}


def _build(data: Path, model: Path, store: Path, *words: str) -> int:
    return main(
        ["build", str(data), "--model", str(model), "--store", str(store), "--iterations", "1", *words]
    )


def _error(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert not any("Traceback" in line for line in lines)
    return next(line for line in lines if "of surface" in line or "inputs" in line or "fields" in line)


BUY = "[tasks.buy]\nwhere = \"kind == 'buy'\"\n"
REORDERED = SCHEMA.replace(TASKS, BUY + "[tasks.view]\n")
OTHER_TASKS = {
    "reordered": (REORDERED, "surface clips, tasks buy, view"),
    "renamed": (SCHEMA.replace("tasks.view", "tasks.seen"), "surface clips, tasks seen, buy"),
    "one more": (SCHEMA + "[tasks.skip]\n", "surface clips, tasks view, buy, skip"),
    "one less": (SCHEMA.replace("[tasks.view]\n", ""), "surface clips, tasks buy"),
    "another surface": (SCHEMA.replace('"clips"', '"films"'), "surface films, tasks view, buy"),
    "two others": (SCHEMA.replace(TASKS, "[tasks.cart]\n[tasks.view]\n"), "surface clips, tasks cart, view"),
}


@pytest.mark.parametrize("kind", ["none", "mlp"])
@pytest.mark.parametrize("name", OTHER_TASKS)
def test_a_model_of_other_tasks_or_another_surface_is_refused(
    name: str, kind: str, models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema, told = OTHER_TASKS[name]
    data = written(tmp_path / "data")
    (data / "schema.toml").write_text(schema)
    wanted = f"{models[kind]}: is a model of surface clips, tasks view, buy, the data is of {told}; name a model of the"
    assert _build(data, models[kind], tmp_path / "store") == 1
    assert f"{wanted} same surface and tasks, or train anew" in _error(capsys)
    assert not (tmp_path / "store").exists()
    out = tmp_path / "newer"
    assert main(["train", str(data), "--from", str(models[kind]), "--out", str(out)]) == 1
    assert f"{wanted} same surface and tasks, or train without --from" in _error(capsys)
    assert not out.exists()


OTHER_FIELDS = {
    "integer to category": (
        'year]\nkind = "integer"',
        'year]\nkind = "category"',
        "year was integer and is category",
    ),
    "integer to number": (
        'year]\nkind = "integer"',
        'year]\nkind = "number"',
        "year was integer and is number",
    ),
    "number to integer": (
        'price]\nkind = "number"',
        'price]\nkind = "category"',
        "price was number and is category",
    ),
    "category to text": (
        'genre]\nkind = "category"',
        'genre]\nkind = "text"',
        "genre was category and is text",
    ),
    "category to categories": (
        'genre]\nkind = "category"',
        'genre]\nkind = "categories"',
        "genre was category and is categories",
    ),
    "text to category": ('name]\nkind = "text"', 'name]\nkind = "category"', "name was text and is category"),
    "gone": ('[fields.genre]\nkind = "category"\n', "", "genre was category and is gone"),
    "renamed": ("fields.name]", 'fields.title]\ncolumn = "name"', "name was text and is gone"),
    "two": (
        '[fields.genre]\nkind = "category"\n[fields.price]\nkind = "number"',
        '[fields.price]\nkind = "category"',
        "genre was category and is gone, price was number and is category",
    ),
}


@pytest.mark.parametrize("name", OTHER_FIELDS)
def test_fields_that_the_item_tower_reads_must_be_as_they_were(
    name: str, models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after, told = OTHER_FIELDS[name]
    # With a newcomer or without: what fits one day fits the next.
    data = written(tmp_path / "data", ITEMS + len(name) % 2)
    assert before in SCHEMA
    (data / "schema.toml").write_text(SCHEMA.replace(before, after))
    wanted = (
        f"{models['none']}: fields that its item_tower.pt2 reads have changed since the training: {told};"
    )
    assert _build(data, models["none"], tmp_path / "store") == 1
    assert f"{wanted} train anew" in _error(capsys)
    assert main(["train", str(data), "--from", str(models["none"]), "--out", str(tmp_path / "newer")]) == 1
    assert f"{wanted} train without --from" in _error(capsys)


def test_a_field_may_be_added_and_fields_may_change_places(models: dict[str, Path], tmp_path: Path) -> None:
    data = written(tmp_path / "data", ITEMS + 2)
    lines = (data / "items.csv").read_text().splitlines()
    (data / "items.csv").write_text(
        "".join(f"{line},{'length' if p == 0 else p}\n" for p, line in enumerate(lines))
    )
    genre = '[fields.genre]\nkind = "category"\n'
    schema = SCHEMA.replace(genre, "").replace("[interactions]", genre + "[interactions]")
    (data / "schema.toml").write_text(
        schema.replace("[interactions]", '[fields.length]\nkind = "integer"\n[interactions]')
    )
    assert _build(data, models["none"], tmp_path / "store") == 0


OTHER_INPUTS = {
    "gone": ("", "none"),
    "another kind": (INPUTS.replace("strings", "ints"), "country (ints, 1)"),
    "longer": (INPUTS.replace("length = 1", "length = 3"), "country (strings, 3)"),
    "renamed": (INPUTS.replace("country", "land"), "land (strings, 1)"),
    "one more": (
        INPUTS + INPUTS.replace("country", "hour").replace("strings", "ints"),
        "country (strings, 1), hour (ints, 1)",
    ),
}


@pytest.mark.parametrize("name", OTHER_INPUTS)
def test_other_inputs_are_refused_by_build_and_read_anew_by_train_from(
    name: str, models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs, told = OTHER_INPUTS[name]
    data = written(tmp_path / "data")
    (data / "schema.toml").write_text(SCHEMA.replace(INPUTS, inputs))
    assert _build(data, models["mlp"], tmp_path / "store") == 1
    assert (
        f"is a model of inputs country (strings, 1), the data declares {told}; train with --from {models['mlp']}"
        in _error(capsys)
    )
    if name == "longer":
        newer = tmp_path / "newer"
        assert (
            main(["train", str(data), "--from", str(models["mlp"]), "--out", str(newer), "--steps", "1"]) == 0
        )
        assert _build(data, newer, tmp_path / "store") == 0


def _without_schema(model: Path, folder: Path) -> Path:
    """A folder as versions before wrote it."""
    folder.mkdir()
    for path in model.iterdir():
        if path.name != "weights.safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_a_folder_of_an_earlier_version_is_checked_by_its_metrics(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, old = written(tmp_path / "data"), _without_schema(models["mlp"], tmp_path / "old")
    assert _build(data, old, tmp_path / "store") == 1
    assert f"{old}: does not name the fields that its item_tower.pt2 reads; train anew" in _error(capsys)
    (old / "item_tower.pt2").unlink()
    assert _build(data, old, tmp_path / "store") == 0
    (data / "schema.toml").write_text(REORDERED)
    capsys.readouterr()
    assert _build(data, old, tmp_path / "store") == 1
    assert "is a model of tasks view, buy, the data is of tasks buy, view" in capsys.readouterr().err
    for text in ("{", "[]", "{}", '{"users": 3}'):
        (old / "metrics.json").write_text(text)
        assert _build(data, old, tmp_path / "store") == 1
        assert "does not name the tasks that the model was trained for; train anew" in capsys.readouterr().err
    (old / "metrics.json").unlink()
    assert _build(data, old, tmp_path / "store") == 1
    assert "does not name the tasks that the model was trained for; train anew" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "3", "{}", json.dumps({"surface": "a b"})])
def test_a_broken_schema_of_a_model_is_told(
    text: str, models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, model = written(tmp_path / "data"), _without_schema(models["none"], tmp_path / "model")
    with safe_open(models["none"] / "weights.safetensors", framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    save_file(tensors, model / "weights.safetensors", {"schema": text})
    assert _build(data, model, tmp_path / "store") == 1
    assert f"{model / 'weights.safetensors'}: cannot be read" in capsys.readouterr().err


def test_items_that_come_with_vectors_have_an_item_tower_of_fields_alone(tmp_path: Path) -> None:
    """The model's space is its own: a newcomer's vector of the data says nothing in it."""
    folders = [written(tmp_path / name, items) for name, items in (("first", ITEMS), ("second", ITEMS + 1))]
    for data in folders:
        table = csv.read_csv(data / "items.csv")
        table = table.append_column("vec", pa.array([[float(p)] * 3 for p in range(len(table))]))
        pq.write_table(table, data / "items.parquet")
        schema = SCHEMA.replace('items.csv"', 'items.parquet"\nvector = "vec"')
        (data / "schema.toml").write_text(schema)
    model = tmp_path / "model"
    assert main(["train", str(folders[0]), "--out", str(model), *TRAIN, "--over-arch", "none"]) == 0
    assert _build(folders[1], model, tmp_path / "store") == 0


def test_ids_of_another_kind_are_refused(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path / "data")
    (data / "schema.toml").write_text(SCHEMA.replace('id = "id"\n', 'id = "id"\nids = "strings"\n', 1))
    assert _build(data, models["none"], tmp_path / "store") == 1
    assert (
        "is a model of items whose ids are integers, in the data they are strings; train anew"
        in capsys.readouterr().err
    )


TOWER = """import torch
class Last(torch.nn.Module):
    def forward(self, inputs):
        return inputs["history_vectors"].sum(1, keepdim=True).expand(-1, 2, -1) + inputs["hour"].sum() * 0
"""


def test_a_user_tower_of_your_own_reads_other_inputs(models: dict[str, Path], tmp_path: Path) -> None:
    data = written(tmp_path / "data")
    (data / "schema.toml").write_text(SCHEMA.replace(INPUTS, '[inputs.hour]\nkind = "floats"\n'))
    (tmp_path / "towers.py").write_text(TOWER)
    own = ("--user-tower", f"{tmp_path / 'towers.py'}:Last")
    assert _build(data, models["mlp"], tmp_path / "store", *own) == 0
