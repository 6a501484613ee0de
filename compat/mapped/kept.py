"""What of a message is kept in a recording: the fields that a mapping reads, with personal ones replaced or left out.

A tree of the mapping's paths is laid over a message, and what it leads to is copied. Left out are all other fields, and
those that the protocol's owner marked `debug_redact`, unless the operator's rules decide about them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, auto
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.mapped.paths import Step, kind_of
from meshfold.compat.recording.rules import Rules
from meshfold.compat.wire_values import is_map, is_repeated, is_required

_ANY = "google.protobuf.Any"
_INTEGERS_32 = {
    FieldDescriptor.TYPE_INT32,
    FieldDescriptor.TYPE_SINT32,
    FieldDescriptor.TYPE_SFIXED32,
    FieldDescriptor.TYPE_UINT32,
    FieldDescriptor.TYPE_FIXED32,
}
_ZEROS = {"string": "", "bytes": b"", "bool": False, "number": 0.0, "integer": 0}
_MOST_LEFT_OUT = 100


class Kind(IntEnum):
    """What a field holds, by what decides about it. The larger holds where a path is of two."""

    UNREAD = auto()
    PLAIN = auto()
    REQUEST_ID = auto()
    USER_ID = auto()
    FEATURES = auto()
    HISTORY = auto()


@dataclass
class Told:
    """What became of a message.

    is_changed: whether anything was replaced or left out. is_lost: whether values that the mapping reads are gone.
    has_new_user: whether a user's id was replaced or left out. left_out: paths of fields that the mapping does not
    read.
    """

    is_changed: bool = False
    is_lost: bool = False
    has_new_user: bool = False
    left_out: dict[str, None] = field(default_factory=dict)

    def leave_out(self, path: str) -> None:
        self.is_changed = True
        if len(self.left_out) < _MOST_LEFT_OUT:
            self.left_out[path] = None


@dataclass(eq=False)
class _Node:
    """kind: of the value, where a path ends here. ways: on from here, by the full name of a field."""

    kind: Kind | None = None
    ways: dict[str, list[tuple[Step, _Node]]] = field(default_factory=dict)

    def add(self, steps: Sequence[Step], kind: Kind) -> None:
        if not steps:
            self.kind = kind if self.kind is None else max(kind, self.kind)
            return
        ways = self.ways.setdefault(steps[0].field.full_name, [])
        node = next((node for step, node in ways if _choice(step) == _choice(steps[0])), None)
        if node is None:
            node = _Node()
            ways.append((steps[0], node))
            if steps[0].where is not None:
                # By it the entry is found again.
                node.add((Step(steps[0].where[0]),), Kind.PLAIN)
        node.add(steps[1:], kind)


def _choice(step: Step) -> tuple[Any, ...]:
    """What a step chooses of a field's entries."""
    where = (step.where[0].full_name, step.where[1]) if step.where is not None else None
    return step.index, step.key, where, step.any_type.full_name if step.any_type is not None else ""


class Kept:
    """Of messages of one type."""

    def __init__(self, paths: Iterable[tuple[Sequence[Step], Kind]], rules: Rules) -> None:
        self._root = _Node()
        for steps, kind in paths:
            self._root.add(steps, kind)
        self._rules = rules

    def copy(self, message: Any) -> tuple[Any, Told]:
        """A new message with what is kept."""
        told, kept = Told(), type(message)()
        self._fill(kept, message, [self._root], "", False, told)
        return kept, told

    def _fill(
        self, kept: Any, message: Any, nodes: Sequence[_Node], prefix: str, is_marked: bool, told: Told
    ) -> None:
        """nodes: all that lead to the message. is_marked: whether it lies in a field that is."""
        whole = _strongest(nodes)
        for held, value in message.ListFields():
            path = f"{prefix}.{held.name}" if prefix else held.name
            ways = [way for node in nodes for way in node.ways.get(held.full_name, ())]
            if whole is not None:
                ways.append((Step(held), _Node(whole)))
            if not ways and not self._rules.keeps_all:
                told.leave_out(path)
                continue
            self._field(kept, held, value, ways, path, is_marked or held.GetOptions().debug_redact, told)
        _complete(kept)

    def _field(
        self,
        kept: Any,
        held: FieldDescriptor,
        value: Any,
        ways: Sequence[tuple[Step, _Node]],
        path: str,
        is_marked: bool,
        told: Told,
    ) -> None:
        target = kept.Extensions if held.is_extension else kept
        name = held if held.is_extension else held.name
        if is_map(held):
            inner, leaf = getattr(kept, held.name), held.message_type.fields_by_name["value"]
            for key in value:
                chosen = [way for way in ways if way[0].key is None or way[0].key == key]
                one = self._one(leaf, value[key], chosen, f"{path}[...]", is_marked, told)
                if leaf.message_type is None and one is not None:
                    inner[key] = one
                elif one is not None:
                    inner[key].CopyFrom(one)
        elif is_repeated(held):
            entries = target[name] if held.is_extension else getattr(target, name)
            keeps_places = any(step.index is not None and not step.is_part for step, _ in ways)
            for place, each in enumerate(value):
                chosen = [way for way in ways if _is_chosen(way[0], place, each)]
                one = self._one(held, each, chosen, path, is_marked, told)
                if one is None and keeps_places:
                    one = _blank(held)
                if one is not None:
                    entries.append(one)
        else:
            one = self._one(held, value, ways, path, is_marked, told)
            if one is None:
                return
            if held.message_type is not None:
                (target[name] if held.is_extension else getattr(target, name)).CopyFrom(one)
            elif held.is_extension:
                target[name] = one
            else:
                setattr(target, name, one)

    def _one(
        self,
        held: FieldDescriptor,
        value: Any,
        ways: Sequence[tuple[Step, _Node]],
        path: str,
        is_marked: bool,
        told: Told,
    ) -> Any:
        """What is kept of one value; None for nothing."""
        if not ways and self._rules.keeps_all:
            ways = [(Step(held), _Node(Kind.UNREAD))]
        kind = _strongest([node for _, node in ways])
        if kind is not None and not self._keeps(kind, is_marked):
            if kind is Kind.UNREAD:
                told.leave_out(path)
            else:
                told.is_changed = told.is_lost = True
            # The operator's rules may keep parts of it.
            ways = [(step, _Node(None, node.ways)) for step, node in ways if node.ways]
            kind = None
            if not ways:
                return None
        if not ways:
            told.leave_out(path)
            return None
        if held.message_type is None:
            return self._value(held, value, kind, told)
        if held.message_type.full_name == _ANY:
            return self._opened(value, ways, path, is_marked, told)
        made = type(value)()
        self._fill(made, value, [node for _, node in ways], path, is_marked, told)
        return made

    def _opened(
        self, packed: Any, ways: Sequence[tuple[Step, _Node]], path: str, is_marked: bool, told: Told
    ) -> Any:
        """An Any with what is kept of the message that it holds; None where no path leads into it."""
        for step, node in ways:
            if step.any_type is None or not packed.Is(step.any_type):
                continue
            kind = GetMessageClass(step.any_type)
            made = kind()
            try:
                self._fill(made, kind.FromString(packed.value), [node], path, is_marked, told)
            except DecodeError:
                break
            return type(packed)(type_url=packed.type_url, value=made.SerializePartialToString())
        if self._rules.keeps_all and not is_marked:
            return packed
        told.leave_out(path)
        return None

    def _keeps(self, kind: Kind, is_marked: bool) -> bool:
        match kind:
            case Kind.HISTORY:
                return "history" not in self._rules.omit
            case Kind.FEATURES:
                return "features" not in self._rules.omit
            case Kind.USER_ID | Kind.REQUEST_ID:
                return True
        return not is_marked

    def _value(self, held: FieldDescriptor, value: Any, kind: Kind | None, told: Told) -> Any:
        if kind not in (Kind.USER_ID, Kind.REQUEST_ID) or self._rules.keeps_ids:
            return value
        made = _blank(held)
        if isinstance(value, str):
            is_user = kind is Kind.USER_ID
            made = self._rules.user_key(value) if is_user else self._rules.request_id(value)
        elif kind_of(held) == "integer":
            # As 64 signed bits.
            hashed = self._rules.user_id(value - (1 << 64) if value >= 1 << 63 else value)
            made = hashed & 0x7FFFFFFF or 1 if hashed and held.type in _INTEGERS_32 else hashed
        if made != value:
            told.is_changed = True
            told.has_new_user |= kind is Kind.USER_ID
        return made


def _strongest(nodes: Sequence[_Node]) -> Kind | None:
    return max((node.kind for node in nodes if node.kind is not None), default=None)


def _is_chosen(step: Step, place: int, value: Any) -> bool:
    if step.is_part:
        # One entry for each query.
        return True
    if step.index is not None:
        return step.index == place
    return step.where is None or getattr(value, step.where[0].name) == step.where[1]


def _blank(held: FieldDescriptor) -> Any:
    if held.message_type is not None:
        made = GetMessageClass(held.message_type)()
        _complete(made)
        return made
    return held.enum_type.values[0].number if held.enum_type is not None else _ZEROS[kind_of(held)]


def _complete(message: Any) -> None:
    """Sets the required fields that are unset, so that the bytes are a message."""
    for held in message.DESCRIPTOR.fields:
        if is_required(held) and not message.HasField(held.name):
            if held.message_type is not None:
                getattr(message, held.name).CopyFrom(_blank(held))
            else:
                setattr(message, held.name, _blank(held))
