"""Converts columns of an answer to the types of its fields: ids, fixed point, enums, constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor

from meshfold.compat.mapped.codecs import Codec
from meshfold.compat.mapped.mapping_file import Part
from meshfold.compat.mapped.paths import enum_number
from meshfold.model.errors import Unprepared
from meshfold.model.schema import nearest
from meshfold.model.types import Ids

# Makes a column for wire_template from a Reply.
Make = Callable[[Any], Any]


_INT_LIMITS: Mapping[int, type[np.integer[Any]]] = {
    FieldDescriptor.TYPE_INT32: np.int32,
    FieldDescriptor.TYPE_SINT32: np.int32,
    FieldDescriptor.TYPE_SFIXED32: np.int32,
    FieldDescriptor.TYPE_UINT32: np.uint32,
    FieldDescriptor.TYPE_FIXED32: np.uint32,
    FieldDescriptor.TYPE_UINT64: np.uint64,
    FieldDescriptor.TYPE_FIXED64: np.uint64,
}


ZEROS: Mapping[str, Any] = {
    "string": "",
    "integer": 0,
    "number": 0.0,
    "bool": False,
    "enum": 0,
    "bytes": b"",
}


@dataclass(frozen=True, eq=False)
class Target:
    """A field of an answer. dimensions: number of repeated fields on its path, itself included. is_list: whether the
    field itself is repeated, so that none of its values can be absent."""

    text: str
    leaf: FieldDescriptor
    kind: str
    dimensions: int
    is_map: bool
    is_list: bool


def check_dimensions(part: Part, target: Target, dimensions: int) -> None:
    if target.dimensions != dimensions:
        words = ("one value", "a list", "a list of lists")
        held = words[target.dimensions] if target.dimensions < 3 else "a list of lists of lists"
        raise part.error(f"gives {words[dimensions]}, and {target.text!r} holds {held}")


def only_one_kind(part: Part, make: Make) -> Make:
    """The column of a field for one kind of ids; absent where the ids are of the other kind."""
    if "only" not in part:
        return make
    wants_strings = part["only"].one_of(("integers", "strings")) == "strings"
    return lambda reply: (
        make(reply) if isinstance(reply.candidates.item_ids, tuple) is wants_strings else None
    )


def ids_column(part: Part, target: Target, codec: Codec | None) -> Make:
    leaf = f"{target.text} ({target.leaf.full_name})"
    if target.kind == "integer":
        held = _INT_LIMITS.get(target.leaf.type)
        limits = None if held is None else np.iinfo(held)

        def integers(reply: Any) -> Any:
            ids: Ids = reply.candidates.item_ids
            if isinstance(ids, tuple):
                raise Unprepared(
                    f"{leaf} holds integers, and the ids of this surface are strings; map a string"
                )
            if limits is not None and len(ids) and not (limits.min <= ids.min() and ids.max() <= limits.max):
                raise Unprepared(
                    f"{leaf} holds {limits.min} to {limits.max}, and ids of this surface lie outside; map a string"
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


def transformed(part: Part, target: Target, kind: str, dimensions: int, read: Make) -> Make:
    """Converts a source's kind to the field's. Raises InvalidMapping where that is impossible."""
    check_dimensions(part, target, dimensions)
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


def scores_of(candidates: Any, task: str) -> Any:
    """Scores by a task: [K] float32. Raises Unprepared for a task that the surface lacks."""
    tasks = candidates.tasks
    if task not in tasks:
        raise Unprepared(f"the mapping shows task {task!r}, which this surface has not{nearest(task, tasks)}")
    return candidates.task_scores[:, tasks.index(task)]


def _scale(part: Part) -> tuple[float, float]:
    scale = part["scale"].number() if "scale" in part else 1.0
    if scale == 0:
        raise part["scale"].error("must not be 0")
    return scale, part["offset"].number() if "offset" in part else 0.0


def _fixed_point(part: Part, target: Target, read: Make) -> Make:
    """Scales and rounds to the nearest integer, clipped to the range of the field."""
    scale, offset = _scale(part)
    limits = np.iinfo(_INT_LIMITS.get(target.leaf.type, np.int64))
    # The extreme doubles in the range of 64-bit integers.
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
    numbers = enum_numbers(part, target)
    instead = enum_default(part, target)

    def convert(name: str | None) -> int | None:
        return instead if name is None else numbers.get(name, instead)

    if target.dimensions == 0:
        return lambda reply: convert(read(reply))
    return lambda reply: [convert(name) for name in read(reply)]


def enum_numbers(part: Part, target: Target) -> Mapping[str, int]:
    if "enum" not in part:
        return {value.name: value.number for value in target.leaf.enum_type.values}
    found = {}
    for name, value in part["enum"].table().items():
        with value.located():
            found[name] = enum_number(target.leaf, value.text())
    return found


def enum_default(part: Part, target: Target) -> int | None:
    if "default" not in part:
        return 0 if target.is_list else None
    with part["default"].located():
        return enum_number(target.leaf, part["default"].text())


def fixed_value(part: Part, target: Target) -> Any:
    """A constant of the mapping. Raises InvalidMapping where it does not fit the field."""
    raw = part.raw
    kind = target.kind
    if kind == "enum":
        with part.located():
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
