"""A message with fields of every kind, and random messages of it, with values that are hard to write."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.wire_values import is_map, is_repeated

_NAMES = (
    "double float int64 uint64 int32 fixed64 fixed32 bool string bytes uint32 sfixed32 sfixed64 sint32 sint64"
)
_SCALARS = _NAMES.split()
_REPEATED, _OPTIONAL = FieldDescriptorProto.LABEL_REPEATED, FieldDescriptorProto.LABEL_OPTIONAL


def descriptor() -> Descriptor:
    """Every scalar once plain, optional, repeated, repeated and not packed, and in a oneof; an enum; messages within
    messages, one by one, repeated and in a oneof; maps. Numbers of fields take one and two bytes."""
    file = FileDescriptorProto(name="every.proto", package="every", syntax="proto3")
    kind = file.enum_type.add(name="Colour")
    kind.value.add(name="NONE", number=0)
    kind.value.add(name="RED", number=-5)
    leaf = file.message_type.add(name="Leaf")
    _field(leaf, "number", "int64")
    _field(leaf, "text", "string")
    _field(leaf, "list", "sint64", repeated=True)
    inner = file.message_type.add(name="Inner")
    _scalars(inner)
    # Not in the order of their numbers.
    for name, label, number in (("leaf", _OPTIONAL, 900), ("leaves", _REPEATED, 800)):
        inner.field.add(name=name, number=number, label=label, type=11, type_name=".every.Leaf")
    root = file.message_type.add(name="Root")
    _scalars(root)
    for name, label in (("inner", _OPTIONAL), ("inners", _REPEATED)):
        root.field.add(name=name, number=len(root.field) + 1, label=label, type=11, type_name=".every.Inner")
    for name, type_ in (("texts", "string"), ("numbers", "float")):
        entry = root.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        _field(entry, "key", "string")
        _field(entry, "value", type_)
        root.field.add(
            name=name, number=len(root.field) + 1, label=3, type=11, type_name=f".every.Root.{entry.name}"
        )
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindMessageTypeByName("every.Root")


def _scalars(message: DescriptorProto) -> None:
    for type_ in _SCALARS:
        _field(message, f"plain_{type_}", type_)
        _field(message, f"list_{type_}", type_, repeated=True)
        if type_ not in ("string", "bytes"):
            _field(message, f"loose_{type_}", type_, repeated=True).options.packed = False
    for name, repeated in (("colour", False), ("colours", True)):
        _field(message, name, "enum", repeated=repeated).type_name = ".every.Colour"
    message.oneof_decl.add(name="choice")
    for type_ in ("int64", "string", "float"):
        _field(message, f"choice_{type_}", type_).oneof_index = 0
    chosen = _field(message, "choice_leaf", "message")
    chosen.type_name, chosen.oneof_index = ".every.Leaf", 0
    # Oneofs of one field each, as protoc makes them, come last.
    for type_ in _SCALARS:
        message.oneof_decl.add(name=f"_maybe_{type_}")
        maybe = _field(message, f"maybe_{type_}", type_)
        maybe.proto3_optional, maybe.oneof_index = True, len(message.oneof_decl) - 1


def _field(message: DescriptorProto, name: str, type_: str, repeated: bool = False) -> FieldDescriptorProto:
    number = getattr(FieldDescriptorProto, f"TYPE_{type_.upper()}")
    return message.field.add(
        name=name, number=len(message.field) + 1, label=_REPEATED if repeated else _OPTIONAL, type=number
    )


def paths(message: Descriptor, before: str = "") -> Iterator[str]:
    """Of every value that the message may hold."""
    for field in message.fields:
        if field.message_type is None or is_map(field):
            yield before + field.name
        else:
            yield from paths(field.message_type, f"{before}{field.name}.")


def column(message: Any, names: list[str]) -> Any:
    """The column of a path of a message."""
    name, *others = names
    field = message.DESCRIPTOR.fields_by_name[name]
    if is_map(field):
        # In the order in which it was filled, on which the order of its bytes depends.
        return dict(sorted(getattr(message, name).items(), key=lambda entry: int(entry[0][1:])))
    if is_repeated(field):
        values = list(getattr(message, name))
        return [column(value, others) for value in values] if others else values
    if field.has_presence and not message.HasField(name):
        # A list in a message that is absent has no values.
        return [] if others and _within_repeated(field.message_type, others) else None
    value = getattr(message, name)
    return column(value, others) if others else value


def _within_repeated(message: Descriptor, names: list[str]) -> bool:
    name, *others = names
    field = message.fields_by_name[name]
    if is_repeated(field):
        return True
    return bool(others) and _within_repeated(field.message_type, others)


class RandomMessages:
    """The same for a seed."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)

    def message(self, kind: Descriptor) -> Any:
        message = GetMessageClass(kind)()
        share = self._draw.choice([0.0, 0.1, 0.5, 1.0])
        for field in kind.fields:
            if self._draw.random() < share:
                self._fill(message, field)
        return message

    def _fill(self, message: Any, field: FieldDescriptor) -> None:
        n = self._draw.choice([0, 1, 3, 20])
        if is_map(field):
            value = field.message_type.fields_by_name["value"]
            getattr(message, field.name).update({f"k{i}": self._value(value) for i in range(n)})
        elif field.message_type is not None and is_repeated(field):
            getattr(message, field.name).extend(self.message(field.message_type) for _ in range(n))
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(self.message(field.message_type))
        elif is_repeated(field):
            getattr(message, field.name).extend(self._value(field) for _ in range(n))
        else:
            setattr(message, field.name, self._value(field))

    def _value(self, field: FieldDescriptor) -> Any:
        pick = self._draw.choice
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_STRING:
                return pick(["", "a", "é" * 70, "日本語", "\U0001f600\0"])
            case FieldDescriptor.CPPTYPE_STRING:
                return pick([b"", b"\0\xff", b"x" * 200])
            case FieldDescriptor.CPPTYPE_BOOL:
                return pick([False, True])
            case FieldDescriptor.CPPTYPE_ENUM:
                return pick([0, -5, 7])
            case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
                return pick([0.0, -0.0, 1.5, float("nan"), float("inf"), -float("inf"), 1e-45, 1e300])
        wide = field.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
        bits = 64 if wide else 32
        drawn = pick([0, 1, 127, 128, self._draw.getrandbits(bits), (1 << bits) - 1, 1 << bits - 1])
        is_unsigned = field.cpp_type in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64)
        return drawn if is_unsigned or drawn < 1 << bits - 1 else drawn - (1 << bits)
