"""Compiles paths into functions that read values of messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.mapped.paths import Path, Step, kind_of
from meshfold.compat.wire_values import is_map, is_repeated
from meshfold.model.errors import InvalidQuery

# Reads the value of a path, None where unset; for a path with repeated fields all values, in order.
Get = Callable[[Any], Any]


def getter(path: Path) -> Get:
    """Compiles a path. The reader raises InvalidQuery for a string that is not UTF-8, which proto2 parsers accept as
    bytes."""
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
    """Whether parsers refuse strings of the field that are not UTF-8."""
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
        # Where a caller sends nothing, the field has the protocol's default.
        return whole
    if not leaf.has_presence:
        # A field without presence counts as unset where it is zero.
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
    """Reads all set values at the end of the steps."""
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
            # Checked first, since reading a missing key of a map of messages adds it.
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
