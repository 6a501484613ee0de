"""Splits requests with several queries into requests with one query each, and joins their answers.

Each part is a message of the request's type with one entry of the repeated field and all fields around it. Answers are
joined from the bytes of their parts without parsing them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.mapped.descriptors import Protocol
from meshfold.compat.mapped.mapping_file import Part
from meshfold.compat.mapped.paths import Path, resolve
from meshfold.compat.varint import varint
from meshfold.compat.wire_values import is_map, is_repeated
from meshfold.model.errors import InvalidQuery

MOST_QUERIES = 100
_MOST_BYTES = 64 << 20
_LENGTH = 4
_BY_LENGTH = 2
# The entry of each repeated field on the path.
Places = tuple[int, ...]


@dataclass(frozen=True)
class Chain:
    """Nested fields from a message to its parts, of which the last is repeated."""

    text: str
    fields: tuple[FieldDescriptor, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    @property
    def depth(self) -> int:
        """The number of repeated fields."""
        return sum(map(is_repeated, self.fields))

    def split(self, message: Any) -> list[tuple[Places, Any]]:
        """Messages of the same type with one part each, and the place of each. Raises InvalidQuery for too many parts,
        for too large fields around them, and for an empty list."""
        found = list(_parts(message, self.fields, ""))
        if len(found) > MOST_QUERIES:
            raise InvalidQuery(self.text, f"has {len(found)} entries; send at most {MOST_QUERIES}")
        return found

    def named(self, path: str, places: Places) -> str:
        """Translates a path of one part into a path of the whole message."""
        steps, rest = [], path
        waiting = list(places)
        for field in self.fields:
            if not rest.startswith(field.name) or rest[len(field.name) :][:1] not in ("", "."):
                break
            place = f"[{waiting.pop(0)}]" if is_repeated(field) and waiting else ""
            steps.append(f"{field.name}{place}")
            rest = rest[len(field.name) + 1 :]
        return ".".join([*steps, rest] if rest else steps)

    def joined(self, parts: Sequence[tuple[Places, Sequence[bytes]]]) -> bytes:
        """The bytes of the whole message. parts: in order, for each its place and the bytes of each message on the path
        to it, the outermost first. An outer message's bytes are taken from its first part."""
        return _joined(self.fields, parts, 0)


@dataclass(frozen=True)
class Several:
    """The fields of queries in a request and of their answers in an answer."""

    request: Chain
    answer: Chain


def several_of(part: Part, request: Descriptor, answer: Descriptor, protocol: Protocol) -> Several:
    """Compiles the table `each` of a method. Raises InvalidMapping."""
    table = part.table({"request", "answer"}, ("request", "answer"))
    found = Several(
        _chain(table["request"], request, protocol),
        _chain(table["answer"], answer, protocol),
    )
    if found.request.depth != found.answer.depth:
        raise table["answer"].error(
            f"goes through {found.answer.depth} repeated fields, and the request's {found.request.text!r} through "
            f"{found.request.depth}; both need as many"
        )
    return found


def _chain(part: Part, message: Descriptor, protocol: Protocol) -> Chain:
    with part.located():
        path: Path = resolve(part.text(), message, protocol)
    for step in path.steps:
        if step.field.message_type is None or is_map(step.field) or step.any_type or step.field.is_extension:
            raise part.error(f"{path.text!r}: {step.field.full_name} holds no messages that could be queries")
        if step.index is not None or step.where is not None:
            raise part.error(f"{path.text!r} must name fields alone, without brackets")
    if not is_repeated(path.leaf):
        raise part.error(f"{path.text!r} is not repeated; leave each out for one query a request")
    return Chain(path.text, tuple(step.field for step in path.steps))


def packed(parts: Sequence[bytes]) -> bytes:
    """Encodes several byte strings as one."""
    return b"".join(len(each).to_bytes(_LENGTH, "little") + each for each in parts)


def unpacked(content: bytes) -> list[bytes]:
    found: list[bytes] = []
    place = 0
    while place < len(content):
        start = place + _LENGTH
        place = start + int.from_bytes(content[place:start], "little")
        found.append(content[start:place])
    return found


def _parts(message: Any, fields: tuple[FieldDescriptor, ...], before: str) -> Iterator[tuple[Places, Any]]:
    first, rest = fields[0], fields[1:]
    name = first.name
    around = type(message)()
    around.CopyFrom(message)
    around.ClearField(name)
    held = getattr(message, name)
    here = f"{before}{name}"
    if not is_repeated(first):
        for places, inner in _parts(held, rest, f"{here}."):
            yield places, _with(around, name, inner, is_list=False)
        return
    if not held:
        raise InvalidQuery(here, "is empty; send at least one")
    if around.ByteSize() * len(held) > _MOST_BYTES:
        raise InvalidQuery(here, f"has {len(held)} entries, and what is sent with each is too large for them")
    for place, entry in enumerate(held):
        inners = _parts(entry, rest, f"{here}[{place}].") if rest else [((), entry)]
        for places, inner in inners:
            yield (place, *places), _with(around, name, inner, is_list=True)


def _with(around: Any, name: str, inner: Any, is_list: bool) -> Any:
    made = type(around)()
    made.CopyFrom(around)
    held = getattr(made, name)
    (held.add() if is_list else held).CopyFrom(inner)
    return made


def _joined(
    fields: tuple[FieldDescriptor, ...], parts: Sequence[tuple[Places, Sequence[bytes]]], depth: int
) -> bytes:
    own = parts[0][1][depth]
    if depth == len(fields):
        return own
    field = fields[depth]
    tag = varint(field.number << 3 | _BY_LENGTH)
    found = [own]
    groups: list[list[tuple[Places, Sequence[bytes]]]] = [list(parts)]
    if is_repeated(field):
        groups = [
            [(places[1:], levels) for places, levels in held]
            for _, held in groupby(parts, key=lambda part: part[0][0])
        ]
    for group in groups:
        inner = _joined(fields, group, depth + 1)
        found += [tag, varint(len(inner)), inner]
    return b"".join(found)


def parse(message: Descriptor, content: bytes) -> Any:
    """Parses a message. Raises DecodeError."""
    return GetMessageClass(message).FromString(content)
