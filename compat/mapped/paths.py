"""Paths to values in a message: checked against its descriptor once, then read by compiled functions.

user.seen.video             fields; repeated ones fan out
inputs[name="user_id"].int  the entries of a repeated field whose field has a value
parts[0]    params["page"]  an entry by place, the value of a key of a map
(acme.ext)                  an extension
payload<acme.Details>.id    what an Any holds, where it holds that message
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.mapped.descriptors import Protocol
from meshfold.compat.mapped.errors import Misfit
from meshfold.compat.wire_values import is_map, is_repeated
from meshfold.model.errors import InvalidQuery
from meshfold.model.schema import nearest

# Reads one value, None where it is unset; or all values of a path that fans out, in order.
Get = Callable[[Any], Any]

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
    """A field of a path. index, key, where: which of its entries; None for all. any_type: what its Any holds."""

    field: FieldDescriptor
    index: int | None = None
    key: Any = None
    where: tuple[FieldDescriptor, Any] | None = None
    any_type: Descriptor | None = None

    @property
    def fans_out(self) -> bool:
        return is_repeated(self.field) and self.index is None and self.key is None and self.where is None


@dataclass(frozen=True, eq=False)
class Path:
    """text: as the mapping has it. leaf: the last field, the value of a map's where a key is named."""

    text: str
    steps: tuple[Step, ...]
    leaf: FieldDescriptor

    @property
    def many(self) -> bool:
        """Whether it leads to a list of values. A map that no key is named of is one value."""
        return any(step.fans_out and not is_map(step.field) for step in self.steps)

    @property
    def kind(self) -> str:
        """Of the values: integer, number, string, bytes, bool, enum, message or map."""
        last = self.steps[-1]
        if last.any_type is not None:
            return "message"
        return "map" if is_map(last.field) and last.key is None else kind_of(self.leaf)

    @property
    def is_plain(self) -> bool:
        """Whether it names singular fields alone, none of them in a oneof, of an Any or an extension."""
        return not any(
            is_repeated(step.field)
            or step.field.is_extension
            or step.any_type
            or (step.field.containing_oneof is not None and not _is_optional(step.field))
            for step in self.steps
        )


def kind_of(field: FieldDescriptor) -> str:
    """Of a field's values, in the words of a mapping."""
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
    """The path of a text within a message. Raises Misfit with the nearest valid name."""
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
    """Raises Misfit with the nearest name."""
    found = inside.fields_by_name.get(name)
    if found is None:
        raise Misfit(
            f"{text!r}: {inside.full_name} has no field {name!r}{nearest(name, inside.fields_by_name)}"
        )
    return found


def enum_number(field: FieldDescriptor, name: str) -> int:
    """Raises Misfit with the nearest name."""
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
    """Of proto3's `optional`, which is a oneof of one field on the wire's side."""
    oneof = field.containing_oneof
    return oneof is not None and len(oneof.fields) == 1 and oneof.name.startswith("_")


def getter(path: Path) -> Get:
    """Reads the path's value, None where it is unset, or all its values where it fans out. Raises InvalidQuery for a
    string that is no UTF-8, which parsers of proto2 let through as bytes."""
    read = _getter(path)
    if path.kind not in ("string", "map") or _is_verified(path.leaf):
        return read

    def get(message: Any) -> Any:
        found = read(message)
        held = found if path.many else [found]
        if path.kind == "map":
            held = [part for each in held if each is not None for pair in each.items() for part in pair]
        if path.kind == "string" or kind_of(path.leaf.message_type.fields_by_name["value"]) != "bytes":
            is_bytes = any(isinstance(each, bytes) for each in held)
        else:
            is_bytes = any(isinstance(each, bytes) for each in held[::2])
        if is_bytes:
            raise InvalidQuery(path.text, "holds a string that is not UTF-8")
        return found

    return get


def _is_verified(field: FieldDescriptor) -> bool:
    """Whether parsers refuse strings of the field that are no UTF-8."""
    file = descriptor_pb2.FileDescriptorProto()
    field.file.CopyToProto(file)
    return bool(file.syntax == "proto3")


def _getter(path: Path) -> Get:
    if path.is_plain:
        return _plain(path)
    if all(_is_singular(step) for step in path.steps[:-1]) and path.steps[-1].fans_out and path.kind != "map":
        last = path.steps[-1].field
        if not last.is_extension and path.steps[-1].any_type is None:
            return attrgetter(".".join(step.field.name for step in path.steps))
    read = _collect(path.steps)
    if path.many:
        return read

    def first(message: Any) -> Any:
        found = read(message)
        return found[0] if found else None

    return first


def _is_singular(step: Step) -> bool:
    return not is_repeated(step.field) and not step.field.is_extension and step.any_type is None


def _plain(path: Path) -> Get:
    names = [step.field.name for step in path.steps]
    leaf = path.leaf
    whole = attrgetter(".".join(names))
    if leaf.has_default_value:
        # The protocol's own default holds where a caller sends nothing.
        return whole
    if not leaf.has_presence:
        # An implicit zero is no value.
        return lambda message: whole(message) or None
    name = names[-1]
    if len(names) == 1:
        return lambda message: getattr(message, name) if message.HasField(name) else None
    holder = attrgetter(".".join(names[:-1]))

    def get(message: Any) -> Any:
        inner = holder(message)
        return getattr(inner, name) if inner.HasField(name) else None

    return get


def _collect(steps: Sequence[Step]) -> Callable[[Any], list[Any]]:
    """All values behind the steps, those that are set."""
    entries = _entries(steps[0])
    if len(steps) == 1:
        return entries
    rest = _collect(steps[1:])
    return lambda message: [value for inner in entries(message) for value in rest(inner)]


def _entries(step: Step) -> Callable[[Any], list[Any]]:
    found = _unfiltered(step)
    if step.index is not None:
        index, all_ = step.index, found
        found = lambda message: list(all_(message)[index : index + 1])  # noqa: E731
    elif step.where is not None:
        name, wanted, entries = step.where[0].name, step.where[1], found
        found = lambda message: [e for e in entries(message) if getattr(e, name) == wanted]  # noqa: E731
    if step.any_type is None:
        return found
    kind, packed = GetMessageClass(step.any_type), found

    def unpacked(message: Any) -> list[Any]:
        return [_unpacked(one, kind) for one in packed(message) if one.Is(kind.DESCRIPTOR)]

    return unpacked


def _unpacked(packed: Any, kind: Any) -> Any:
    try:
        return kind.FromString(packed.value)
    except DecodeError:
        name = kind.DESCRIPTOR.full_name
        raise InvalidQuery("request", f"holds an Any whose bytes are not the {name} that it names") from None


def _unfiltered(step: Step) -> Callable[[Any], list[Any]]:
    field, name = step.field, step.field.name
    if field.is_extension:
        if is_repeated(field):
            return lambda message: list(message.Extensions[field])
        return lambda message: [message.Extensions[field]] if message.HasExtension(field) else []
    if is_map(field):
        if step.key is None:
            return lambda message: [getattr(message, name)]
        key = step.key

        def of_key(message: Any) -> list[Any]:
            # Reading a key that a map of messages lacks would add it.
            held = getattr(message, name)
            return [held[key]] if key in held else []

        return of_key
    if is_repeated(field):
        return lambda message: list(getattr(message, name))
    if field.has_presence and not field.has_default_value:
        return lambda message: [getattr(message, name)] if message.HasField(name) else []
    if field.has_default_value:
        return lambda message: [getattr(message, name)]
    return lambda message: [value] if (value := getattr(message, name)) else []


def capture_integers(field: FieldDescriptor) -> bool:
    """Whether the wire has the field's value as a plain varint, so that it is the value itself."""
    return field.type in _INTEGERS and field.type not in (
        FieldDescriptor.TYPE_SINT32,
        FieldDescriptor.TYPE_SINT64,
        FieldDescriptor.TYPE_FIXED32,
        FieldDescriptor.TYPE_FIXED64,
        FieldDescriptor.TYPE_SFIXED32,
        FieldDescriptor.TYPE_SFIXED64,
    )
