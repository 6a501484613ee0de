"""The schema that a model folder was trained for, and its comparison with the data's schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from meshfold.model.errors import InvalidData
from meshfold.model.schema import Input, Schema
from meshfold.model.snapshot import ITEM_TOWER
from meshfold.model.train.model_folder import METRICS, WEIGHTS

# The only entry of WEIGHTS's metadata: the order of several entries would vary, and the bytes with it.
SCHEMA = "schema"


def check_schema(folder: Path, schema: Schema, remedy: str, inputs: bool) -> None:
    """Compares the data's schema with the one that a model folder was trained for.

    Surface, tasks in their order and the kind of ids must be equal. If the folder has an item tower,
    which reads all fields, every field of the training must exist with the same kind; others may be added. inputs:
    whether the inputs must be equal, which running the user tower needs. remedy: the advice at the end of messages
    without one of their own. Raises InvalidData that names the difference.
    """
    trained = _trained_schema(folder)
    if trained is None:
        _check_old(folder, schema, remedy)
        return
    if _of(trained) != _of(schema):
        raise InvalidData(
            f"{folder}: is a model of {_of(trained)}, the data is of {_of(schema)}; name a model of the same surface"
            f" and tasks, or {remedy}"
        )
    if trained.ids is not schema.ids:
        raise InvalidData(
            f"{folder}: is a model of items whose ids are {trained.ids}, in the data they are {schema.ids}; {remedy}"
        )
    if (folder / ITEM_TOWER).is_file():
        _check_fields(folder, trained, schema, remedy)
    if inputs and trained.inputs != schema.inputs:
        raise InvalidData(
            f"{folder}: is a model of inputs {_words(trained.inputs)}, the data declares {_words(schema.inputs)};"
            f" train with --from {folder}, which reads the inputs anew"
        )


def _check_fields(folder: Path, trained: Schema, schema: Schema, remedy: str) -> None:
    changed = [
        f"{f.name} was {f.kind} and is {schema[f.name].kind if f.name in schema else 'gone'}"
        for f in trained.fields
        if f.name not in schema or schema[f.name].kind is not f.kind
    ]
    if changed:
        raise InvalidData(
            f"{folder}: fields that its {ITEM_TOWER} reads have changed since the training: {', '.join(changed)};"
            f" {remedy}"
        )


def _check_old(folder: Path, schema: Schema, remedy: str) -> None:
    """Checks a folder without weights or of an earlier version, which has no schema: tasks are the keys of "users" in
    METRICS, in their order."""
    path = folder / METRICS
    try:
        tasks = tuple(json.loads(path.read_text(encoding="utf-8"))["users"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidData(
            f"{path}: does not name the tasks that the model was trained for; {remedy}"
        ) from error
    if tasks != schema.tasks:
        raise InvalidData(
            f"{folder}: is a model of tasks {', '.join(map(str, tasks))}, the data is of tasks"
            f" {', '.join(schema.tasks)}; name a model of the same tasks, or {remedy}"
        )
    if (folder / ITEM_TOWER).is_file():
        raise InvalidData(f"{folder}: does not name the fields that its {ITEM_TOWER} reads; {remedy}")


def _trained_schema(folder: Path) -> Schema | None:
    """The schema in WEIGHTS; None without the file or the schema. Raises InvalidData where it cannot be read."""
    path = folder / WEIGHTS
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(SCHEMA)
        return None if text is None else Schema.from_json(json.loads(text))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, InvalidData) as error:
        raise InvalidData(f"{path}: cannot be read ({error}); train anew") from error


def _of(schema: Schema) -> str:
    return f"surface {schema.surface}, tasks {', '.join(schema.tasks)}"


def _words(inputs: Sequence[Input]) -> str:
    return ", ".join(f"{i.name} ({i.kind}, {i.length})" for i in inputs) or "none"
