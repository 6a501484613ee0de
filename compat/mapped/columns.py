"""Columns of an answer's fields: ids, values, catalog fields and other sources of a reply, converted to their types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor

from meshfold.compat.mapped.codecs import Codec, codec_of
from meshfold.compat.mapped.conversions import (
    ZEROS,
    Make,
    Target,
    check_dimensions,
    enum_default,
    enum_numbers,
    fixed_value,
    ids_column,
    only_one_kind,
    scores_of,
    transformed,
)
from meshfold.compat.mapped.mapping_file import Part
from meshfold.compat.mapped.paths import kind_of
from meshfold.compat.mapped.shown import SOURCES
from meshfold.compat.mapped.tensor_bytes import NUMBERS
from meshfold.model.errors import Unprepared
from meshfold.model.types import FieldValues

_CANDIDATE, _TASK = "candidate", "task"
# (kind, dimensions, unit of an entry) of each source, by name.
_SOURCES = {
    "item_id": ("id", 1, _CANDIDATE),
    "value": ("number", 1, _CANDIDATE),
    "similarity": ("number", 1, _CANDIDATE),
    "rank": ("integer", 1, _CANDIDATE),
    "scores": ("number", 2, _CANDIDATE),
    "tasks": ("string", 1, _TASK),
    "version": ("string", 0, ""),
    "request_id": ("string", 0, ""),
    "surface": ("string", 0, ""),
    "count": ("integer", 0, ""),
    "next_page_token": ("string", 0, ""),
    "explain": ("map", 0, ""),
}
DIMENSIONS = {name: dimensions for name, (_, dimensions, _) in _SOURCES.items()}
_WORDS = {
    "from",
    "field",
    "task",
    "const",
    "echo",
    "default",
    "enum",
    "scale",
    "offset",
    "start",
    "key",
    "as",
    "ids",
    "only",
    "cel",
    "empty",
}
# numpy types of columns as raw bytes, by the words of a mapping.
RAW = {name: NUMBERS[name] for name in ("float32", "float64", "int32", "int64")}


@dataclass(frozen=True, eq=False)
class Column:
    """A column of an answer. make: makes its values. length: unit of an entry, candidate or task. field: catalog field
    of the values. key: equal for columns with the same values, which are converted once."""

    make: Make
    length: str = ""
    field: str = ""
    key: str = ""


def column_of(part: Part, target: Target, codec: Codec | None, echo: tuple[str, str] | None = None) -> Column:
    """Compiles a column. echo: name and kind of a repeated part of the request. Raises InvalidMapping."""
    if not isinstance(part.raw, dict):
        return _named(part, part, target, codec)
    table = part.table(_WORDS)
    sources = [name for name in SOURCES if name in table]
    if len(sources) != 1:
        raise part.error(f"needs one of {', '.join(SOURCES)}")
    if "empty" in table and "const" not in table:
        raise table["empty"].error("stands beside const alone: the constant of an answer without results")
    if "const" in table:
        return _constant(table["const"], table.get("empty"), target)
    if "cel" in table:
        # Imported here, since it imports torch, which only expressions need.
        from meshfold.compat.mapped.transforms import transform

        return Column(transformed(part, target, "number", 1, transform(table["cel"])), _CANDIDATE)
    if "field" in table:
        return _field(part, table, target)
    if "task" in table:
        task = table["task"].text()
        make = transformed(part, target, "number", 1, lambda reply: scores_of(reply.candidates, task))
        return Column(make, _CANDIDATE)
    if echo is not None:
        name, kind = echo
        read = lambda reply: reply.query.echoes[name]  # noqa: E731
        return Column(transformed(part, target, kind, 0, read))
    return _named(part, table["from"], target, codec)


def _named(part: Part, name: Part, target: Target, codec: Codec | None) -> Column:
    source = name.one_of(_SOURCES)
    kind, dimensions, length = _SOURCES[source]
    own = part.get("ids")
    if own is not None:
        with own.located():
            codec = codec_of(own.text())
    if "key" in part:
        return _keyed(part, source, target, codec)
    if "as" in part:
        return _raw(part, source, target)
    if source == "explain" or target.is_map:
        return _map(part, source, target)
    if source == "item_id":
        check_dimensions(part, target, 1)
        return Column(only_one_kind(part, ids_column(part, target, codec)), length)
    make = transformed(part, target, kind, dimensions, _read(source, part))
    # Without options, and of the field's own kind, the column is the source unchanged.
    is_source = isinstance(part.raw, str) and kind == target.kind
    return Column(make, length if target.dimensions else "", key=source if is_source else "")


def _read(source: str, part: Part) -> Make:
    start = part["start"].integer() if "start" in part else 1
    return {
        "value": lambda reply: reply.candidates.values,
        "similarity": lambda reply: reply.candidates.similarities,
        "rank": lambda reply: (
            np.arange(start, start + len(reply.candidates.item_ids), dtype=np.int64)
            + (reply.query.page.first if reply.query.page is not None else 0)
        ),
        "scores": lambda reply: reply.candidates.task_scores,
        "tasks": lambda reply: reply.candidates.tasks,
        "version": lambda reply: reply.candidates.version,
        "request_id": lambda reply: reply.query.request_id,
        "surface": lambda reply: reply.query.surface,
        "count": lambda reply: len(reply.candidates.item_ids),
        "next_page_token": lambda reply: reply.next_token,
    }[source]


def _constant(part: Part, empty: Part | None, target: Target) -> Column:
    """The column of a constant. empty: the constant of an answer without results."""
    made = fixed_value(part, target)
    if target.dimensions == 0:
        if empty is None:
            return Column(lambda _: made)
        instead = fixed_value(empty, target)
        return Column(lambda reply: made if len(reply.candidates.item_ids) else instead)
    check_dimensions(part, target, 1)
    if empty is not None:
        raise empty.error(f"{target.text!r} has a value for each result, so that none is without one")
    return Column(lambda reply: [made] * len(reply.candidates.item_ids), _CANDIDATE)


def _field(part: Part, table: Mapping[str, Part], target: Target) -> Column:
    """The column of a catalog field: one value or one list for each candidate."""
    name = table["field"].text()
    if target.is_map:
        raise part.error(f"{target.text!r} is a map; name a key of it")
    if target.dimensions not in (1, 2):
        raise part.error(f"a field is shown of each candidate; {target.text!r} is not repeated")
    if "scale" in table or "offset" in table:
        raise part.error("a field is shown as it is; leave scale and offset out")
    if target.kind in ("bool", "bytes"):
        raise part.error(
            f"{target.text!r} is of kind {target.kind}; a field needs a string, a number or an enum"
        )
    convert: Callable[[Any], Any] | None = None
    if target.kind == "enum":
        numbers, instead = enum_numbers(part, target), enum_default(part, target)
        convert = lambda value: numbers.get(value, instead)  # noqa: E731
    elif "enum" in table:
        raise table["enum"].error(f"{target.text!r} is no enum")
    else:
        instead = ZEROS[target.kind] if target.is_list else None
        if "default" in table:
            instead = fixed_value(table["default"], target)
    if "default" in table and target.dimensions == 2:
        raise table["default"].error("a list has no default; leave it out")
    single = target.dimensions == 1

    def make(reply: Any) -> Any:
        field: FieldValues = reply.candidates.fields[name]
        lengths = field.lengths.tolist()
        values: Sequence[Any] = field.values if isinstance(field.values, tuple) else field.values.tolist()
        _check_field(name, values, target, single and any(length > 1 for length in lengths))
        found: list[Any] = []
        place = 0
        for length in lengths:
            held = values[place : place + length]
            place += length
            if convert is not None:
                held = [convert(value) for value in held]
                if not single:
                    held = [value for value in held if value is not None]
            found.append((held[0] if held else instead) if single else held)
        return found

    return Column(make, _CANDIDATE, name)


def _check_field(name: str, values: Sequence[Any], target: Target, is_many: bool) -> None:
    """Raises Unprepared where the catalog's field does not have the kind that the mapping needs."""
    if is_many:
        raise Unprepared(
            f"items have several values of {name}, and {target.text} holds one; map a repeated field"
        )
    if not values:
        return
    first = values[0]
    held = "string" if isinstance(first, str) else "integer" if isinstance(first, int) else "number"
    fits = held == target.kind or (held, target.kind) in (("integer", "number"), ("string", "enum"))
    if not fits:
        raise Unprepared(f"field {name} is of kind {held}, and {target.text} of kind {target.kind}")


def _keyed(part: Part, source: str, target: Target, codec: Codec | None) -> Column:
    """The column of a map from ids to values of candidates, or from tasks to scores."""
    part["key"].one_of(("item_id",))
    if not target.is_map:
        raise part["key"].error(f"{target.text!r} is no map")
    check_dimensions(part, target, 0)
    held = target.leaf.message_type.fields_by_name
    keys = ids_column(part, _inner(target, held["key"]), codec)
    kind, dimensions, length = _SOURCES[source]
    if length != _CANDIDATE or dimensions != 1 or source == "item_id":
        raise part.error(f"{source} is not one number of each candidate")
    values = transformed(part, _inner(target, held["value"]), kind, 1, _read(source, part))

    def make(reply: Any) -> Any:
        return dict(zip(_plain(keys(reply)), _plain(values(reply)), strict=True))

    return Column(make)


def _inner(target: Target, leaf: FieldDescriptor) -> Target:
    return Target(target.text, leaf, kind_of(leaf), 1, False, True)


def _map(part: Part, source: str, target: Target) -> Column:
    """The column of a map: explain, or the scores of each candidate by task."""
    if not target.is_map:
        raise part.error(f"{source} is a map, and {target.text!r} is none")
    held = target.leaf.message_type.fields_by_name
    kinds = kind_of(held["key"]), kind_of(held["value"])
    if source == "explain":
        check_dimensions(part, target, 0)
        if kinds != ("string", "string"):
            raise part.error(f"explain needs a map from strings to strings; {target.text!r} is another")
        return Column(_explained)
    if source != "scores" or kinds != ("string", "number"):
        raise part.error(f"{target.text!r} is a map; give key, or scores to a map from strings to numbers")
    check_dimensions(part, target, 1)

    def make(reply: Any) -> Any:
        tasks = reply.candidates.tasks
        return [dict(zip(tasks, row, strict=True)) for row in reply.candidates.task_scores.tolist()]

    return Column(make, _CANDIDATE)


def _explained(reply: Any) -> Any:
    return {reply.named(name): text for name, text in reply.candidates.explain.items()} or None


def _raw(part: Part, source: str, target: Target) -> Column:
    """The column of numbers as raw bytes, little-endian and row by row."""
    kind = part["as"].one_of(RAW)
    if target.kind != "bytes":
        raise part.error(f"{target.text!r} is of kind {target.kind}; raw numbers need bytes")
    check_dimensions(part, target, 0)
    held, _, length = _SOURCES[source]
    if length != _CANDIDATE or (held == "number" and kind.startswith("int")):
        raise part.error(f"{source} cannot be sent as {kind}")
    read = _read(source, part) if source != "item_id" else ids_column(part, _whole_numbers(target), None)
    return Column(lambda reply: np.ascontiguousarray(read(reply), RAW[kind]).tobytes())


def _whole_numbers(target: Target) -> Target:
    return Target(target.text, target.leaf, "integer", 1, False, True)


def _plain(values: Any) -> Any:
    return values.tolist() if hasattr(values, "tolist") else values
