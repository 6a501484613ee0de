"""Redacts a message for a recording: keeps the fields that a mapping reads, with personal ones replaced or removed.

A tree of the mapping's paths selects the fields of a message to copy. All other fields are removed, and so are fields
that the protocol marks as `debug_redact`, unless the operator's rules decide about them.
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
    """The kinds of fields in redaction. A field of two kinds has the larger one."""

    UNREAD = auto()
    PLAIN = auto()
    REQUEST_ID = auto()
    USER_ID = auto()
    FEATURES = auto()
    HISTORY = auto()


@dataclass
class RedactionReport:
    """The changes made to a message.

    is_changed: whether any value was replaced or removed. is_lost: whether values that the mapping reads were removed.
    has_new_user: whether a user's id was replaced or removed. left_out: paths of fields that the mapping does not read.
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
    """A node of the tree of paths. kind: kind of the value where a path ends. ways: further steps by full field
    name."""

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
                # Kept, since the entry is selected by this field.
                node.add((Step(steps[0].where[0]),), Kind.PLAIN)
        node.add(steps[1:], kind)


def _choice(step: Step) -> tuple[Any, ...]:
    """The selection of a step among a field's entries."""
    where = (step.where[0].full_name, step.where[1]) if step.where is not None else None
    return step.index, step.key, where, step.any_type.full_name if step.any_type is not None else ""


class Kept:
    """Redacts messages of one type."""

    def __init__(self, paths: Iterable[tuple[Sequence[Step], Kind]], rules: Rules) -> None:
        self._root = _Node()
        for steps, kind in paths:
            self._root.add(steps, kind)
        self._rules = rules

    def copy(self, message: Any) -> tuple[Any, RedactionReport]:
        """A new message with the kept fields, and a report of the changes."""
        report, kept = RedactionReport(), type(message)()
        self._fill(kept, message, [self._root], "", False, report)
        return kept, report

    def _fill(
        self,
        kept: Any,
        message: Any,
        nodes: Sequence[_Node],
        prefix: str,
        is_marked: bool,
        report: RedactionReport,
    ) -> None:
        """Copies the kept fields of a message. nodes: tree nodes of the message. is_marked: whether a field around it
        is marked as debug_redact."""
        whole = _strongest(nodes)
        for held, value in message.ListFields():
            path = f"{prefix}.{held.name}" if prefix else held.name
            ways = [way for node in nodes for way in node.ways.get(held.full_name, ())]
            if whole is not None:
                ways.append((Step(held), _Node(whole)))
            if not ways and not self._rules.keeps_all:
                report.leave_out(path)
                continue
            self._field(kept, held, value, ways, path, is_marked or held.GetOptions().debug_redact, report)
        _complete(kept)

    def _field(
        self,
        kept: Any,
        held: FieldDescriptor,
        value: Any,
        ways: Sequence[tuple[Step, _Node]],
        path: str,
        is_marked: bool,
        report: RedactionReport,
    ) -> None:
        target = kept.Extensions if held.is_extension else kept
        name = held if held.is_extension else held.name
        if is_map(held):
            inner, leaf = getattr(kept, held.name), held.message_type.fields_by_name["value"]
            for key in value:
                chosen = [way for way in ways if way[0].key is None or way[0].key == key]
                one = self._one(leaf, value[key], chosen, f"{path}[...]", is_marked, report)
                if leaf.message_type is None and one is not None:
                    inner[key] = one
                elif one is not None:
                    inner[key].CopyFrom(one)
        elif is_repeated(held):
            entries = target[name] if held.is_extension else getattr(target, name)
            keeps_places = any(step.index is not None and not step.is_part for step, _ in ways)
            for place, each in enumerate(value):
                chosen = [way for way in ways if _is_chosen(way[0], place, each)]
                one = self._one(held, each, chosen, path, is_marked, report)
                if one is None and keeps_places:
                    one = _blank(held)
                if one is not None:
                    entries.append(one)
        else:
            one = self._one(held, value, ways, path, is_marked, report)
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
        report: RedactionReport,
    ) -> Any:
        """The kept part of one value; None for nothing."""
        if not ways and self._rules.keeps_all:
            ways = [(Step(held), _Node(Kind.UNREAD))]
        kind = _strongest([node for _, node in ways])
        if kind is not None and not self._keeps(kind, is_marked):
            if kind is Kind.UNREAD:
                report.leave_out(path)
            else:
                report.is_changed = report.is_lost = True
            # The operator's rules may keep parts of the value.
            ways = [(step, _Node(None, node.ways)) for step, node in ways if node.ways]
            kind = None
            if not ways:
                return None
        if not ways:
            report.leave_out(path)
            return None
        if held.message_type is None:
            return self._value(held, value, kind, report)
        if held.message_type.full_name == _ANY:
            return self._opened(value, ways, path, is_marked, report)
        made = type(value)()
        self._fill(made, value, [node for _, node in ways], path, is_marked, report)
        return made

    def _opened(
        self,
        packed: Any,
        ways: Sequence[tuple[Step, _Node]],
        path: str,
        is_marked: bool,
        report: RedactionReport,
    ) -> Any:
        """An Any with the kept fields of its message; None where no path enters it."""
        for step, node in ways:
            if step.any_type is None or not packed.Is(step.any_type):
                continue
            kind = GetMessageClass(step.any_type)
            made = kind()
            try:
                self._fill(made, kind.FromString(packed.value), [node], path, is_marked, report)
            except DecodeError:
                break
            return type(packed)(type_url=packed.type_url, value=made.SerializePartialToString())
        if self._rules.keeps_all and not is_marked:
            return packed
        report.leave_out(path)
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

    def _value(self, held: FieldDescriptor, value: Any, kind: Kind | None, report: RedactionReport) -> Any:
        if kind not in (Kind.USER_ID, Kind.REQUEST_ID) or self._rules.keeps_ids:
            return value
        made = _blank(held)
        if isinstance(value, str):
            is_user = kind is Kind.USER_ID
            made = self._rules.user_key(value) if is_user else self._rules.request_id(value)
        elif kind_of(held) == "integer":
            # Converted to a signed 64-bit integer.
            hashed = self._rules.user_id(value - (1 << 64) if value >= 1 << 63 else value)
            made = hashed & 0x7FFFFFFF or 1 if hashed and held.type in _INTEGERS_32 else hashed
        if made != value:
            report.is_changed = True
            report.has_new_user |= kind is Kind.USER_ID
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
    """Sets unset required fields, so that the bytes can be parsed."""
    for held in message.DESCRIPTOR.fields:
        if is_required(held) and not message.HasField(held.name):
            if held.message_type is not None:
                getattr(message, held.name).CopyFrom(_blank(held))
            else:
                setattr(message, held.name, _blank(held))
