"""An answer to `meshfold query` as a table, as JSON, and as notes on what was asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from meshfold.commands import console
from meshfold.model.types import Candidates, FieldValues, Query

if TYPE_CHECKING:
    from meshfold.commands.query import Told

# Values of a field in a cell of the table.
_SHOWN = 4
# Parts of a request; what `explain` says under their paths is a note on that part.
_NOTED = ("history", "features", "filter")


def to_json(told: Told, explain: bool) -> dict[str, Any]:
    """One object an item, as JSON's values. Every field is a list: empty where the item lacks it."""
    candidates = told.candidates
    fields = {name: _rows(values) for name, values in candidates.fields.items()}
    items = [
        {
            "item_id": item_id,
            "value": value,
            "similarity": similarity,
            "task_scores": dict(zip(candidates.tasks, scores, strict=True)),
            "fields": {name: rows[i] for name, rows in fields.items()},
        }
        for i, (item_id, value, similarity, scores) in enumerate(_results(candidates))
    ]
    notes = {path: text for path, text in candidates.explain.items() if _is_note(path)}
    return {
        "answered_by": told.answered_by or ("model" if told.protocol == "meshfold.v1" else ""),
        "protocol": str(told.protocol),
        "fallback": told.fallback,
        "version": candidates.version,
        "versions": dict(told.versions),
        "tasks": list(candidates.tasks),
        "items": items,
        "notes": notes,
        "explain": dict(candidates.explain) if explain else {},
    }


def show(told: Told, explain: bool) -> None:
    """A row an item. explain: whether to show a table of that, too."""
    candidates = told.candidates
    fields = {name: _rows(values) for name, values in candidates.fields.items()}
    tasks = candidates.tasks if len(candidates.tasks) > 1 else ()
    columns = ["item", *fields, "value", "similarity", *tasks]
    rows = [
        [
            item_id,
            *(_cell(r[i]) for r in fields.values()),
            value,
            similarity,
            *scores[: len(tasks)],
        ]
        for i, (item_id, value, similarity, scores) in enumerate(_results(candidates))
    ]
    console.table(columns, rows, f"{len(rows)} results from {_from(told)}")
    if explain:
        shown = [(name, text) for name, text in sorted(candidates.explain.items()) if not _is_note(name)]
        console.table(["explain", ""], shown)


def notes_of(explain: Mapping[str, str], query: Query) -> list[str]:
    """What the server says of parts of the request that nothing knows or has, a line each."""
    notes = []
    for path, text in explain.items():
        if _is_note(path):
            remedy = (
                "; give one with --history ID,ID,..." if path == "history" and not len(query.history) else ""
            )
            part = "filter" if path.startswith("filter") else path
            notes.append(f"{part}: {text}{remedy}")
    return notes


def _is_note(path: str) -> bool:
    return path.partition(".")[0].partition("[")[0] in _NOTED


def _from(told: Told) -> str:
    """Who answered, and which version of it."""
    parts = {name: version[:12] for name, version in told.versions.items() if version}
    version = told.candidates.version[:12]
    # The parts of a mesh are deployed one by one.
    if len(set(parts.values())) > 1:
        version = ", ".join(f"{name} {version}" for name, version in parts.items())
    said = f"version {version}" if version else "an unknown version"
    if told.answered_by:
        said = f"the {told.answered_by}, {said}"
    if told.fallback:
        failed = {"mesh": "model", "model": "mesh"}.get(told.answered_by, "side asked first")
        said += f", because the {failed} failed ({told.fallback})"
    return said


def _cell(values: list[str | int | float]) -> str:
    """The first of many values, so that a row stays a line; --json has them all."""
    more = len(values) - _SHOWN
    return ", ".join(map(_shown, values[:_SHOWN])) + (f", and {more} more" if more > 0 else "")


def _shown(value: str | int | float) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _results(candidates: Candidates) -> zip[tuple[int | str, float, float, list[float]]]:
    ids = candidates.item_ids
    columns = (candidates.values, candidates.similarities, candidates.task_scores)
    return zip(
        ids if isinstance(ids, tuple) else ids.tolist(), *(column.tolist() for column in columns), strict=True
    )


def _rows(field: FieldValues) -> list[list[str | int | float]]:
    """The values of each item."""
    ends = np.cumsum(field.lengths).tolist()
    values = field.values if isinstance(field.values, tuple) else field.values.tolist()
    return [
        list(values[end - length : end]) for end, length in zip(ends, field.lengths.tolist(), strict=True)
    ]
