"""Paths to values in a message, checked against its descriptor; getters.py compiles them.

user.seen.video             fields; all entries of repeated ones
inputs[name="user_id"].int  the entries of a repeated field whose field has a value
parts[0]    params["page"]  an entry by place, the value of a key of a map
(acme.ext)                  an extension
payload<acme.Details>.id    the message in an Any, where it has that type
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from meshfold.compat.mapped.descriptors import Protocol
from meshfold.compat.mapped.errors import Misfit
from meshfold.compat.wire_values import is_map, is_repeated
from meshfold.model.schema import nearest

_STEP = re.compile(
    r"""(?:(?P<name>\w+)|\((?P<extension>[\w.]+)\))
        (?:\[(?:(?P<index>\d+)|"(?P<key>(?:[^"\\]|\\.)*)"|(?P<field>\w+)\s*=\s*"(?P<value>(?:[^"\\]|\\.)*)")\])?
        (?:<(?P<any>[\w.]+)>)?""",
    re.VERBOSE,
)
_ANY = "google.protobuf.Any"
_MOST_STEPS = 32
_MESSAGES = (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_GROUP)
_INTEGERS = {
    FieldDescriptor.TYPE_INT32,
    FieldDescriptor.TYPE_SINT32,
    FieldDescriptor.TYPE_SFIXED32,
    FieldDescriptor.TYPE_UINT32,
    FieldDescriptor.TYPE_FIXED32,
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_SINT64,
    FieldDescriptor.TYPE_SFIXED64,
    FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_FIXED64,
}


@dataclass(frozen=True, eq=False)
class Step:
    """A field of a path. index, key, where: the selected entry; None for all. any_type: the message type in an Any.
    is_part: whether it is a repeated field whose entries are read one at a time, each as a request."""

    field: FieldDescriptor
    index: int | None = None
    key: Any = None
    where: tuple[FieldDescriptor, Any] | None = None
    any_type: Descriptor | None = None
    is_part: bool = False

    @property
    def fans_out(self) -> bool:
        return is_repeated(self.field) and self.index is None and self.key is None and self.where is None


@dataclass(frozen=True, eq=False)
class Path:
    """A path. text: as written in the mapping. leaf: the last field; for a key of a map, the map's value field."""

    text: str
    steps: tuple[Step, ...]
    leaf: FieldDescriptor

    @property
    def many(self) -> bool:
        """Whether the path leads to a list of values. A map without a key counts as one value."""
        return any(step.fans_out and not is_map(step.field) for step in self.steps)

    @property
    def kind(self) -> str:
        """The kind of the values: integer, number, string, bytes, bool, enum, message or map."""
        last = self.steps[-1]
        if last.any_type is not None:
            return "message"
        return "map" if is_map(last.field) and last.key is None else kind_of(self.leaf)

    @property
    def is_plain(self) -> bool:
        """Whether all fields of the path are singular, outside of oneofs, and neither Any nor extension."""
        return not any(
            is_repeated(step.field)
            or step.field.is_extension
            or step.any_type
            or (step.field.containing_oneof is not None and not _is_optional(step.field))
            for step in self.steps
        )


def kind_of(field: FieldDescriptor) -> str:
    """The kind of a field's values, in the words of a mapping."""
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return "string"
        case FieldDescriptor.TYPE_BYTES:
            return "bytes"
        case FieldDescriptor.TYPE_BOOL:
            return "bool"
        case FieldDescriptor.TYPE_ENUM:
            return "enum"
        case FieldDescriptor.TYPE_FLOAT | FieldDescriptor.TYPE_DOUBLE:
            return "number"
        case FieldDescriptor.TYPE_MESSAGE | FieldDescriptor.TYPE_GROUP:
            return "message"
    return "integer"


def resolve(text: str, message: Descriptor, protocol: Protocol) -> Path:
    """Parses a path within a message. Raises Misfit with the nearest valid name."""
    steps: list[Step] = []
    inside: Descriptor | None = message
    place = 0
    while True:
        match = _STEP.match(text, place)
        if match is None:
            here = f"at {text[place : place + 20]!r}" if text[place:] else "at its end"
            raise Misfit(f"{text!r} is no path: expected the name of a field {here}")
        if inside is None:
            raise Misfit(f"{text!r}: {steps[-1].field.full_name} is a value and has no field {match[0]!r}")
        step = _step(match, inside, text, protocol)
        steps.append(step)
        if len(steps) > _MOST_STEPS:
            raise Misfit(f"{text!r} has more than {_MOST_STEPS} fields")
        inside = _inside(step)
        place = match.end()
        if place == len(text):
            break
        if text[place] != ".":
            raise Misfit(f"{text!r} is no path: expected . or the end at {text[place : place + 20]!r}")
        place += 1
    for step in steps[:-1]:
        if is_map(step.field) and step.key is None:
            raise Misfit(
                f'{text!r}: {step.field.full_name} is a map; name a key of it, {step.field.name}["key"]'
            )
    last = steps[-1]
    leaf = last.field
    if is_map(leaf) and last.key is not None:
        leaf = leaf.message_type.fields_by_name["value"]
    return Path(text, tuple(steps), leaf)


def within_parts(path: Path, parts: tuple[str, ...]) -> Path:
    """The path in a message whose repeated fields along `parts` have one entry each. Raises Misfit where the path
    selects an entry of them."""
    steps = list(path.steps)
    for place, name in enumerate(parts[: len(steps)]):
        step = steps[place]
        if step.field.name != name or step.field.is_extension:
            break
        if step.index is not None or step.where is not None:
            raise Misfit(f"{path.text!r}: {name} has one entry for each query here; leave the brackets out")
        if is_repeated(step.field):
            steps[place] = replace(step, index=0, is_part=True)
    return Path(path.text, tuple(steps), path.leaf)


def _step(match: re.Match[str], inside: Descriptor, text: str, protocol: Protocol) -> Step:
    field = _field(match, inside, text, protocol)
    index = key = where = any_type = None
    if match["index"] is not None:
        _need_repeated(field, text)
        index = int(match["index"])
    elif match["key"] is not None:
        if not is_map(field):
            raise Misfit(f"{text!r}: {field.full_name} is no map, and has no keys")
        key = _key(match["key"], field.message_type.fields_by_name["key"], text)
    elif match["field"] is not None:
        _need_repeated(field, text)
        if field.message_type is None:
            raise Misfit(f"{text!r}: {field.full_name} holds values, which have no field {match['field']!r}")
        by = field_of(field.message_type, match["field"], text)
        if is_repeated(by) or kind_of(by) not in ("string", "integer", "enum"):
            raise Misfit(
                f"{text!r}: {by.full_name} must be one string, integer or enum to find entries by it"
            )
        where = (by, _key(match["value"], by, text))
    if match["any"] is not None:
        held = field.message_type
        if held is None or held.full_name != _ANY:
            raise Misfit(f"{text!r}: {field.full_name} is no {_ANY}")
        any_type = protocol.message(match["any"])
    return Step(field, index, key, where, any_type)


def _field(match: re.Match[str], inside: Descriptor, text: str, protocol: Protocol) -> FieldDescriptor:
    if match["extension"] is None:
        return field_of(inside, match["name"], text)
    try:
        field = protocol.pool.FindExtensionByName(match["extension"])
    except KeyError:
        known = [each.full_name for each in protocol.pool.FindAllExtensions(inside)]
        raise Misfit(
            f"{text!r}: no extension {match['extension']!r}{nearest(match['extension'], known)}"
        ) from None
    if field.containing_type.full_name != inside.full_name:
        raise Misfit(
            f"{text!r}: {field.full_name} extends {field.containing_type.full_name}, not {inside.full_name}"
        )
    return field


def field_of(inside: Descriptor, name: str, text: str) -> FieldDescriptor:
    """The field of a name. Raises Misfit with the nearest name."""
    found = inside.fields_by_name.get(name)
    if found is None:
        raise Misfit(
            f"{text!r}: {inside.full_name} has no field {name!r}{nearest(name, inside.fields_by_name)}"
        )
    return found


def enum_number(field: FieldDescriptor, name: str) -> int:
    """The number of an enum value. Raises Misfit with the nearest name."""
    found = field.enum_type.values_by_name.get(name)
    if found is None:
        known = field.enum_type.values_by_name
        raise Misfit(f"{field.enum_type.full_name} has no value {name!r}{nearest(name, known)}")
    return int(found.number)


def _need_repeated(field: FieldDescriptor, text: str) -> None:
    if is_map(field):
        raise Misfit(f'{text!r}: {field.full_name} is a map; name a key of it, {field.name}["key"]')
    if not is_repeated(field):
        raise Misfit(f"{text!r}: {field.full_name} is not repeated; leave the brackets out")


def _key(written: str, field: FieldDescriptor, text: str) -> Any:
    value = re.sub(r"\\(.)", r"\1", written)
    kind = kind_of(field)
    if kind == "string":
        return value
    if kind == "enum":
        return enum_number(field, value)
    if kind == "bool" and value in ("true", "false"):
        return value == "true"
    if re.fullmatch(r"-?\d{1,19}", value):
        return int(value)
    raise Misfit(f"{text!r}: {field.full_name} is of kind {kind}, and {value!r} is none")


def _inside(step: Step) -> Descriptor | None:
    if step.any_type is not None:
        return step.any_type
    if is_map(step.field):
        value: Descriptor | None = step.field.message_type.fields_by_name["value"].message_type
        return value
    found: Descriptor | None = step.field.message_type
    return found


def _is_optional(field: FieldDescriptor) -> bool:
    """Whether a field is `optional` in proto3, which descriptors represent as a oneof of one field."""
    oneof = field.containing_oneof
    return oneof is not None and len(oneof.fields) == 1 and oneof.name.startswith("_")


def capture_integers(field: FieldDescriptor) -> bool:
    """Whether the field's value is encoded as a plain varint."""
    return field.type in _INTEGERS and field.type not in (
        FieldDescriptor.TYPE_SINT32,
        FieldDescriptor.TYPE_SINT64,
        FieldDescriptor.TYPE_FIXED32,
        FieldDescriptor.TYPE_FIXED64,
        FieldDescriptor.TYPE_SFIXED32,
        FieldDescriptor.TYPE_SFIXED64,
    )
