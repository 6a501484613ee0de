"""Encodes messages of any protocol from columns, by a template that is compiled once from a message's descriptor.

    RESPONSE = compile(RetrieveResponse.DESCRIPTOR, {"tasks": "tasks", "candidates.item_id": "item_ids"})
    RESPONSE.encode({"tasks": ("like", "watch"), "item_ids": np.array([7, 3])})

The bytes are those of the generated class's SerializeToString. A path names a field within the message; its column has
one dimension for each repeated field on the path: an array, a sequence of strings, or a sequence of columns of one
dimension less where lengths differ. A map is a mapping, and adds no dimension. A column that is None is absent, and so
is a None or masked value of a field that is not repeated. A message that is not repeated is written where any of its
fields has a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from meshfold.compat.wire_values import (
    Bools,
    Flat,
    Written,
    converter,
    flatten,
    is_map,
    is_repeated,
    is_required,
    without_absent,
)
from meshfold.kernels.wire.columns import ABSENT, Column, FieldLayout, Form, Int64s, Kind, Layout
from meshfold.kernels.wire.table import NONE

_KINDS = {
    FieldDescriptor.TYPE_DOUBLE: Kind.FIXED64,
    FieldDescriptor.TYPE_FIXED64: Kind.FIXED64,
    FieldDescriptor.TYPE_SFIXED64: Kind.FIXED64,
    FieldDescriptor.TYPE_FLOAT: Kind.FIXED32,
    FieldDescriptor.TYPE_FIXED32: Kind.FIXED32,
    FieldDescriptor.TYPE_SFIXED32: Kind.FIXED32,
    FieldDescriptor.TYPE_STRING: Kind.BYTES,
    FieldDescriptor.TYPE_BYTES: Kind.BYTES,
    FieldDescriptor.TYPE_MESSAGE: Kind.MESSAGE,
}
# Kinds whose values are written one by one, each with its length.
_BY_LENGTH = (Kind.BYTES, Kind.RAW, Kind.MESSAGE)


def compile(message: Descriptor, sources: Mapping[str, str]) -> Template:
    """Compiles the template of a message. sources: names of columns by the paths of fields, such as
    `candidates.item_id`; other fields are not written. Raises ValueError for a path without a writable field, and for a
    required field without a source."""
    root = _Node(message.name, None, 0)
    for path, source in sources.items():
        _add(root, message, path, source)
    return Template(root)


@dataclass(eq=False)
class _Node:
    """A field to write, or the message itself.

    dimensions: number of repeated fields on its path, itself included. source, convert: of a field with a value. place:
    index of its column. oneofs: children of each oneof with several. leaves: indices of the columns below it.
    """

    path: str
    descriptor: FieldDescriptor | None
    dimensions: int
    source: str = ""
    convert: Callable[[Any], Written] | None = None
    children: list[_Node] = field(default_factory=list)
    place: int = NONE
    repeated: bool = False
    oneofs: list[list[_Node]] = field(default_factory=list)
    leaves: list[int] = field(default_factory=list)
    required: list[_Node] = field(default_factory=list)


class Template:
    """A compiled template; made by compile()."""

    def __init__(self, root: _Node) -> None:
        messages: list[_Node] = [root]
        layouts: list[list[FieldLayout]] = []
        place = 0
        for message in messages:
            _finish(message)
            layouts.append([])
            for child in message.children:
                child.place, place = place, place + 1
                if child.children:
                    messages.append(child)
                layouts[-1].append(_layout(child, len(messages) - 1))
        for message in reversed(messages):
            for child in message.children:
                child.leaves = [place for inner in child.children for place in inner.leaves] or [child.place]
        self._root = root
        self._fields = place
        leaves = [child for message in messages for child in message.children if not child.children]
        # Nodes that write the same column in the same way.
        shared: dict[object, list[_Node]] = {}
        for leaf in leaves:
            shared.setdefault((leaf.source, leaf.convert, leaf.dimensions, leaf.repeated), []).append(leaf)
        self._shared = list(shared.values())
        self._layout = Layout(tuple(map(tuple, layouts)))
        self.message = root.path

    def encode(self, columns: Mapping[str, Any]) -> bytes:
        """The bytes of a message. Raises ValueError where a column is missing or does not fit its field or the other
        columns, and for two set fields of a oneof; UnicodeEncodeError for a string that is not valid text."""
        # Imported here, since it imports torch, which command lines do not need.
        from meshfold.kernels.wire.write import write

        flat: dict[int, Flat] = {}
        made = [ABSENT] * self._fields
        for first, *others in self._shared:
            try:
                column = columns[first.source]
            except KeyError:
                raise ValueError(f"{self.message} needs a column {first.source}") from None
            if column is not None:
                found = flat[first.place] = self._flat(first, column)
                for leaf in others:
                    flat[leaf.place] = found
        _assemble(self._root, flat, None, made)
        return write(self._layout, made)

    def _flat(self, leaf: _Node, column: Any) -> Flat:
        assert leaf.convert is not None
        try:
            found = flatten(column, leaf.dimensions)
            if isinstance(found.values, np.ma.MaskedArray):
                found = without_absent(found)
            try:
                found.values = leaf.convert(found.values)
            except ValueError:
                # Absent values are searched only where a value cannot be written, which is rare.
                kept = without_absent(found)
                if kept.present is None:
                    raise
                found = kept
                found.values = leaf.convert(found.values)
            if found.present is not None and leaf.repeated:
                raise ValueError("is repeated, so that no value of it can be absent")
        except UnicodeError:
            raise
        except ValueError as error:
            raise ValueError(f"column {leaf.source} for {self.message}.{leaf.path} {error}") from None
        return found


def _add(root: _Node, message: Descriptor, path: str, source: str) -> None:
    """Adds a path to a tree of nodes."""
    node, inside = root, message
    names = path.split(".")
    for depth, name in enumerate(names, 1):
        here = ".".join(names[:depth])
        found = inside.fields_by_name.get(name)
        if found is None:
            raise ValueError(f"{inside.full_name} has no field {name} ({path})")
        if found.type == FieldDescriptor.TYPE_GROUP:
            raise ValueError(f"{found.full_name} is a group, which is not written; use a message ({path})")
        is_last = depth == len(names)
        holds_fields = found.message_type is not None and not is_map(found)
        if is_last is holds_fields:
            remedy = "name a field of it" if holds_fields else "it has no fields to name"
            raise ValueError(
                f"{found.full_name} is a {'message' if holds_fields else 'value'}; {remedy} ({path})"
            )
        child = next((child for child in node.children if child.path == here), None)
        if child is None:
            repeated = is_repeated(found) and not is_map(found)
            child = _Node(here, found, node.dimensions + repeated, repeated=repeated)
            node.children.append(child)
        node = child
        if holds_fields:
            inside = found.message_type
    assert node.descriptor is not None
    node.source, node.convert = source, converter(node.descriptor)


def _finish(message: _Node) -> None:
    """Puts the fields of a message in the order in which they are written."""
    message.children.sort(key=lambda child: child.descriptor.number if child.descriptor else 0)
    by_oneof: dict[str, list[_Node]] = {}
    for child in message.children:
        assert child.descriptor is not None
        if child.descriptor.containing_oneof is not None:
            by_oneof.setdefault(child.descriptor.containing_oneof.name, []).append(child)
    message.oneofs = [members for members in by_oneof.values() if len(members) > 1]
    message.required = [
        child for child in message.children if child.descriptor and is_required(child.descriptor)
    ]
    written = {child.path.rpartition(".")[2] for child in message.required}
    first = message.children[0].descriptor if message.children else None
    for needed in first.containing_type.fields if first else ():
        if is_required(needed) and needed.name not in written:
            raise ValueError(f"{needed.full_name} is required; give it a source")


def _layout(node: _Node, child: int) -> FieldLayout:
    found = node.descriptor
    assert found is not None
    kind = Kind.RAW if is_map(found) else _KINDS.get(found.type, Kind.VARINT)
    form = Form.EACH
    if node.repeated and found.is_packed:
        form = Form.PACKED
    elif not node.repeated and not found.has_presence and kind not in (Kind.RAW, Kind.MESSAGE):
        form = Form.UNLESS_ZERO
    wire = Kind.BYTES if form is Form.PACKED or kind in _BY_LENGTH else kind
    return FieldLayout(found.number << 3 | wire, kind, form, child if node.children else NONE)


def _assemble(message: _Node, flat: Mapping[int, Flat], within: Bools | None, made: list[Column]) -> None:
    """Sets the columns of all fields of a message. within: whether each instance of the message is present, among those
    of the nearest repeated message around it; None for all."""
    for child in message.children:
        found = [flat[place] for place in child.leaves if place in flat]
        if not found:
            continue
        present = None
        if child.repeated:
            counts = _same_counts(child, found)
            if within is not None and isinstance(counts, np.ndarray):
                counts = counts[within]
        else:
            present = _present(child, found) if child.children else found[0].present
            counts = (
                1 if present is None else (present if within is None else present[within]).astype(np.int64)
            )
        if child.children:
            made[child.place] = Column(counts)
            _assemble(child, flat, present, made)
        else:
            made[child.place] = Column(counts, *found[0].values)
    for needed in message.required:
        if np.any(np.asarray(made[needed.place].counts) < 1):
            raise ValueError(f"{needed.path} is required; give it a value")
    for members in message.oneofs:
        parts = [flat[place] for member in members for place in member.leaves if place in flat]
        written = sum(np.asarray(made[member.place].counts) for member in members)
        if np.any(written > 1) and parts[0].instances(message.dimensions):
            raise ValueError(f"at most one of {', '.join(member.path for member in members)} may be set")


def _present(message: _Node, parts: Sequence[Flat]) -> Bools | None:
    """Whether each instance of a message has a value in any field; None for all."""
    around = message.dimensions
    masks = [np.zeros(parts[0].instances(around), np.bool_)]
    for part in parts:
        if len(part.counts) == around:
            if part.present is None:
                return None
            masks.append(part.present)
        else:
            has_values = np.asarray(part.counts[around]) > 0
            if has_values.ndim == 0 and has_values:
                return None
            masks.append(has_values)
    present: Bools = masks[0]
    for mask in masks[1:]:
        present = present | mask
    return present


def _same_counts(node: _Node, parts: Sequence[Flat]) -> int | Int64s:
    """The length of a repeated field in each instance of its message, which must be equal in all columns below it."""
    first, *others = (part.counts[node.dimensions - 1] for part in parts)
    for other in others:
        is_same = first == other if type(first) is type(other) is int else _is_same(first, other)
        if not is_same:
            raise ValueError(f"columns for {node.path} have different lengths, {first} and {other}")
    return first


def _is_same(one: int | Int64s, other: int | Int64s) -> bool:
    """Whether counts are equal; a single number stands for that count everywhere."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and one.shape != other.shape:
        return False
    return bool(np.all(one == other))
