"""What a field of an answer is made of: ids, values, fields and whatever else a reply has, converted to its type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor

from meshfold.compat.mapped.codecs import Codec, codec_of
from meshfold.compat.mapped.mapping_file import Part
from meshfold.compat.mapped.paths import enum_number, kind_of
from meshfold.model.errors import Unprepared
from meshfold.model.schema import nearest
from meshfold.model.types import FieldValues, Ids

# From a reply to a column, in the form that wire_template takes.
Make = Callable[[Any], Any]

_CANDIDATE, _TASK = "candidate", "task"
# By name: kind, dimensions, what there is an entry for.
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
}
_RAW = {"float32": "<f4", "float64": "<f8", "int32": "<i4", "int64": "<i8"}
_INT_LIMITS: Mapping[int, type[np.integer[Any]]] = {
    FieldDescriptor.TYPE_INT32: np.int32,
    FieldDescriptor.TYPE_SINT32: np.int32,
    FieldDescriptor.TYPE_SFIXED32: np.int32,
    FieldDescriptor.TYPE_UINT32: np.uint32,
    FieldDescriptor.TYPE_FIXED32: np.uint32,
    FieldDescriptor.TYPE_UINT64: np.uint64,
    FieldDescriptor.TYPE_FIXED64: np.uint64,
}
_ZEROS: Mapping[str, Any] = {
    "string": "",
    "integer": 0,
    "number": 0.0,
    "bool": False,
    "enum": 0,
    "bytes": b"",
}


@dataclass(frozen=True, eq=False)
class Target:
    """A field of an answer. dimensions: repeated fields on its path, itself included. is_list: whether it is repeated
    itself, so that none of its values can be absent."""

    text: str
    leaf: FieldDescriptor
    kind: str
    dimensions: int
    is_map: bool
    is_list: bool


@dataclass(frozen=True, eq=False)
class Column:
    """field: of the catalog that it shows. length: what there is an entry for."""

    make: Make
    length: str = ""
    field: str = ""


def column_of(part: Part, target: Target, codec: Codec | None, echo: tuple[str, str] | None = None) -> Column:
    """echo: a part of the request, by name and kind. Raises InvalidMapping."""
    if not isinstance(part.raw, dict):
        return _named(part, part, target, codec)
    table = part.table(_WORDS)
    sources = [name for name in ("from", "field", "task", "const", "echo") if name in table]
    if len(sources) != 1:
        raise part.error("needs one of from, field, task, const and echo")
    if "const" in table:
        return _constant(table["const"], target)
    if "field" in table:
        return _field(part, table, target)
    if "task" in table:
        task = table["task"].text()
        make = _transformed(part, target, "number", 1, lambda reply: _task_scores(reply, task))
        return Column(make, _CANDIDATE)
    if echo is not None:
        name, kind = echo
        read = lambda reply: reply.query.echoes[name]  # noqa: E731
        return Column(_transformed(part, target, kind, 0, read))
    return _named(part, table["from"], target, codec)


def _named(part: Part, name: Part, target: Target, codec: Codec | None) -> Column:
    source = name.one_of(_SOURCES)
    kind, dimensions, length = _SOURCES[source]
    own = part.get("ids")
    if own is not None:
        with own.told():
            codec = codec_of(own.text())
    if "key" in part:
        return _keyed(part, source, target, codec)
    if "as" in part:
        return _raw(part, source, target)
    if source == "explain" or target.is_map:
        return _map(part, source, target)
    if source == "item_id":
        _check_dimensions(part, target, 1)
        return Column(_only(part, _ids(part, target, codec)), length)
    make = _transformed(part, target, kind, dimensions, _read(source, part))
    return Column(make, length if target.dimensions else "")


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


def _check_dimensions(part: Part, target: Target, dimensions: int) -> None:
    if target.dimensions != dimensions:
        words = ("one value", "a list", "a list of lists")
        held = words[target.dimensions] if target.dimensions < 3 else "a list of lists of lists"
        raise part.error(f"gives {words[dimensions]}, and {target.text!r} holds {held}")


def _only(part: Part, make: Make) -> Make:
    """Of a field beside another one for ids of the other kind: absent where it is the other's turn."""
    if "only" not in part:
        return make
    wants_strings = part["only"].one_of(("integers", "strings")) == "strings"
    return lambda reply: (
        make(reply) if isinstance(reply.candidates.item_ids, tuple) is wants_strings else None
    )


def _ids(part: Part, target: Target, codec: Codec | None) -> Make:
    leaf = f"{target.text} ({target.leaf.full_name})"
    if target.kind == "integer":

        def integers(reply: Any) -> Any:
            ids: Ids = reply.candidates.item_ids
            if isinstance(ids, tuple):
                raise Unprepared(
                    f"{leaf} holds integers, and the ids of this surface are strings; map a string"
                )
            return ids

        return integers
    if target.kind != "string":
        raise part.error(f"{target.text!r} is of kind {target.kind}; ids need a string or an integer")

    def strings(reply: Any) -> Any:
        ids: Ids = reply.candidates.item_ids
        if codec is None:
            if isinstance(ids, tuple):
                return ids
            raise Unprepared(
                f'{leaf} holds strings, and the ids of this surface are integers; give ids = "decimal"'
            )
        if codec.has_integers is isinstance(ids, tuple):
            held = "strings" if isinstance(ids, tuple) else "integers"
            raise Unprepared(f"the codec {codec.name} does not fit: the ids of this surface are {held}")
        encode: Callable[[Any], str] = codec.encode
        return [encode(each) for each in (ids if isinstance(ids, tuple) else ids.tolist())]

    return strings


def _transformed(part: Part, target: Target, kind: str, dimensions: int, read: Make) -> Make:
    """Of a source's kind as the field's. Raises InvalidMapping where they do not fit."""
    _check_dimensions(part, target, dimensions)
    if target.is_map:
        raise part.error(f"{target.text!r} is a map; give key, or name a key of it")
    is_scaled = "scale" in part or "offset" in part
    if is_scaled and kind not in ("number", "integer"):
        raise part.error(f"is of kind {kind}, which has no scale")
    if target.kind == "enum" and kind == "string":
        return _to_enum(part, target, read)
    if "enum" in part:
        raise part["enum"].error(f"{target.text!r} is no enum")
    if kind == "number" and target.kind == "integer":
        if not is_scaled:
            raise part.error(f"{target.text!r} holds integers; give scale, such as 1000 for thousandths")
        return _fixed_point(part, target, read)
    if not (kind == target.kind or (kind == "integer" and target.kind == "number")):
        raise part.error(
            f"is of kind {kind}, and {target.text!r} of kind {target.kind} ({target.leaf.full_name})"
        )
    if is_scaled:
        scale, offset = _scale(part)
        if target.kind == "integer":
            return _fixed_point(part, target, read)
        return lambda reply: np.asarray(read(reply), np.float64) * scale + offset
    return read


def _scale(part: Part) -> tuple[float, float]:
    scale = part["scale"].number() if "scale" in part else 1.0
    if scale == 0:
        raise part["scale"].error("must not be 0")
    return scale, part["offset"].number() if "offset" in part else 0.0


def _fixed_point(part: Part, target: Target, read: Make) -> Make:
    """Rounded to the nearest; what the field cannot hold is its largest or smallest."""
    scale, offset = _scale(part)
    limits = np.iinfo(_INT_LIMITS.get(target.leaf.type, np.int64))
    # The largest doubles that 64 bits hold.
    least, most = (
        float(limits.min),
        float(np.nextafter(limits.max, 0)) if limits.bits == 64 else float(limits.max),
    )

    def make(reply: Any) -> Any:
        scaled = np.rint(np.asarray(read(reply), np.float64) * scale + offset)
        found = np.clip(np.nan_to_num(scaled), least, most)
        return found.astype(np.uint64 if limits.min == 0 else np.int64)

    if target.dimensions == 0:
        return lambda reply: int(make(reply))
    return make


def _to_enum(part: Part, target: Target, read: Make) -> Make:
    numbers = _enum_numbers(part, target)
    instead = _enum_default(part, target)

    def convert(name: str | None) -> int | None:
        return instead if name is None else numbers.get(name, instead)

    if target.dimensions == 0:
        return lambda reply: convert(read(reply))
    return lambda reply: [convert(name) for name in read(reply)]


def _enum_numbers(part: Part, target: Target) -> Mapping[str, int]:
    if "enum" not in part:
        return {value.name: value.number for value in target.leaf.enum_type.values}
    found = {}
    for name, value in part["enum"].table().items():
        with value.told():
            found[name] = enum_number(target.leaf, value.text())
    return found


def _enum_default(part: Part, target: Target) -> int | None:
    if "default" not in part:
        return 0 if target.is_list else None
    with part["default"].told():
        return enum_number(target.leaf, part["default"].text())


def _constant(part: Part, target: Target) -> Column:
    made = _fixed(part, target)
    if target.dimensions == 0:
        return Column(lambda _: made)
    _check_dimensions(part, target, 1)
    return Column(lambda reply: [made] * len(reply.candidates.item_ids), _CANDIDATE)


def _fixed(part: Part, target: Target) -> Any:
    """The value that a mapping writes down. Raises InvalidMapping where the field cannot hold it."""
    raw = part.raw
    kind = target.kind
    if kind == "enum":
        with part.told():
            raw = enum_number(target.leaf, part.text())
    fits = {
        "string": isinstance(raw, str),
        "bytes": isinstance(raw, str),
        "bool": isinstance(raw, bool),
        "integer": isinstance(raw, int) and not isinstance(raw, bool),
        "number": isinstance(raw, int | float) and not isinstance(raw, bool),
        "enum": True,
    }.get(kind, False)
    if not fits or target.is_map:
        raise part.error(f"{raw!r} does not fit {target.text!r}, of kind {kind} ({target.leaf.full_name})")
    if kind == "integer":
        limits = np.iinfo(_INT_LIMITS.get(target.leaf.type, np.int64))
        if not limits.min <= raw <= limits.max:
            raise part.error(f"must lie from {limits.min} to {limits.max}, got {raw}")
    return raw.encode() if kind == "bytes" else raw


def _task_scores(reply: Any, task: str) -> Any:
    tasks = reply.candidates.tasks
    if task not in tasks:
        raise Unprepared(f"the mapping shows task {task!r}, which this surface has not{nearest(task, tasks)}")
    return reply.candidates.task_scores[:, tasks.index(task)]


def _field(part: Part, table: Mapping[str, Part], target: Target) -> Column:
    """A field of the catalog: one value of each candidate, or a list of each."""
    name = table["field"].text()
    if target.dimensions not in (1, 2) or target.is_map:
        raise part.error(f"a field is shown of each candidate; {target.text!r} is not repeated")
    if "scale" in table or "offset" in table:
        raise part.error("a field is shown as it is; leave scale and offset out")
    if target.kind in ("bool", "bytes"):
        raise part.error(
            f"{target.text!r} is of kind {target.kind}; a field needs a string, a number or an enum"
        )
    convert: Callable[[Any], Any] | None = None
    if target.kind == "enum":
        numbers, instead = _enum_numbers(part, target), _enum_default(part, target)
        convert = lambda value: numbers.get(value, instead)  # noqa: E731
    elif "enum" in table:
        raise table["enum"].error(f"{target.text!r} is no enum")
    else:
        instead = _ZEROS[target.kind] if target.is_list else None
        if "default" in table:
            instead = _fixed(table["default"], target)
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
    """Raises Unprepared where the catalog's field is not what the mapping says."""
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
    """A map from ids to values of candidates, or from tasks to scores."""
    part["key"].one_of(("item_id",))
    if not target.is_map:
        raise part["key"].error(f"{target.text!r} is no map")
    _check_dimensions(part, target, 0)
    held = target.leaf.message_type.fields_by_name
    keys = _ids(part, _inner(target, held["key"]), codec)
    kind, dimensions, length = _SOURCES[source]
    if length != _CANDIDATE or dimensions != 1 or source == "item_id":
        raise part.error(f"{source} is not one number of each candidate")
    values = _transformed(part, _inner(target, held["value"]), kind, 1, _read(source, part))

    def make(reply: Any) -> Any:
        return dict(zip(_plain(keys(reply)), _plain(values(reply)), strict=True))

    return Column(make)


def _inner(target: Target, leaf: FieldDescriptor) -> Target:
    return Target(target.text, leaf, kind_of(leaf), 1, False, True)


def _map(part: Part, source: str, target: Target) -> Column:
    """explain, or the scores of each candidate by task, as a map."""
    if not target.is_map:
        raise part.error(f"{source} is a map, and {target.text!r} is none")
    held = target.leaf.message_type.fields_by_name
    kinds = kind_of(held["key"]), kind_of(held["value"])
    if source == "explain":
        _check_dimensions(part, target, 0)
        if kinds != ("string", "string"):
            raise part.error(f"explain needs a map from strings to strings; {target.text!r} is another")
        return Column(_explained)
    if source != "scores" or kinds != ("string", "number"):
        raise part.error(f"{target.text!r} is a map; give key, or scores to a map from strings to numbers")
    _check_dimensions(part, target, 1)

    def make(reply: Any) -> Any:
        tasks = reply.candidates.tasks
        return [dict(zip(tasks, row, strict=True)) for row in reply.candidates.task_scores.tolist()]

    return Column(make, _CANDIDATE)


def _explained(reply: Any) -> Any:
    return {reply.named(name): text for name, text in reply.candidates.explain.items()} or None


def _raw(part: Part, source: str, target: Target) -> Column:
    """A column's numbers as bytes, little-endian and row by row."""
    kind = part["as"].one_of(_RAW)
    if target.kind != "bytes":
        raise part.error(f"{target.text!r} is of kind {target.kind}; raw numbers need bytes")
    _check_dimensions(part, target, 0)
    held, _, length = _SOURCES[source]
    if length != _CANDIDATE or (held == "number" and kind.startswith("int")):
        raise part.error(f"{source} cannot be sent as {kind}")
    read = _read(source, part) if source != "item_id" else _ids(part, _whole_numbers(target), None)
    return Column(lambda reply: np.ascontiguousarray(read(reply), _RAW[kind]).tobytes())


def _whole_numbers(target: Target) -> Target:
    return Target(target.text, target.leaf, "integer", 1, False, True)


def _plain(values: Any) -> Any:
    return values.tolist() if hasattr(values, "tolist") else values
