"""Shows an answer to `meshfold query` as a table, as JSON, and as notes on the query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from meshfold.commands import console
from meshfold.model.types import Candidates, FieldValues, Query

if TYPE_CHECKING:
    from meshfold.commands.query import Reply

# Most values of a field in a cell of the table.
_SHOWN = 4
# Parts of a request; entries of `explain` under their paths are notes on them.
_NOTED = ("history", "features", "filter")


def to_json(reply: Reply, explain: bool) -> dict[str, Any]:
    """The answer as JSON: one object per item. Every field is a list, empty where the item lacks it."""
    candidates = reply.candidates
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
        "answered_by": reply.answered_by or ("model" if reply.protocol == "meshfold.v1" else ""),
        "protocol": str(reply.protocol),
        "fallback": reply.fallback,
        "version": candidates.version,
        "versions": dict(reply.versions),
        "tasks": list(candidates.tasks),
        "items": items,
        "notes": notes,
        "explain": dict(candidates.explain) if explain else {},
    }


def show(reply: Reply, explain: bool) -> None:
    """Prints one row per item. explain: whether to print the explanation, too."""
    candidates = reply.candidates
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
    console.table(columns, rows, f"{len(rows)} results from {_from(reply)}")
    if explain:
        shown = [(name, text) for name, text in sorted(candidates.explain.items()) if not _is_note(name)]
        console.table(["explain", ""], shown)


def notes_of(explain: Mapping[str, str], query: Query) -> list[str]:
    """The server's notes on unknown parts of the request, one line each."""
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


def _from(reply: Reply) -> str:
    """The answering side and its version, in words."""
    parts = {name: version[:12] for name, version in reply.versions.items() if version}
    version = reply.candidates.version[:12]
    # The parts of a mesh may have different versions.
    if len(set(parts.values())) > 1:
        version = ", ".join(f"{name} {version}" for name, version in parts.items())
    said = f"version {version}" if version else "an unknown version"
    if reply.answered_by:
        said = f"the {reply.answered_by}, {said}"
    if reply.fallback:
        failed = {"mesh": "model", "model": "mesh"}.get(reply.answered_by, "side asked first")
        said += f", because the {failed} failed ({reply.fallback})"
    return said


def _cell(values: list[str | int | float]) -> str:
    """A cell with the first values of a list, so that a row stays one line; --json has all."""
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
    """The values of a field, by item."""
    ends = np.cumsum(field.lengths).tolist()
    values = field.values if isinstance(field.values, tuple) else field.values.tolist()
    return [
        list(values[end - length : end]) for end, length in zip(ends, field.lengths.tolist(), strict=True)
    ]
