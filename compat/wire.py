"""Declares counters of requests on the wire, by the names of a protocol's messages and fields.

A field is named with its message, such as `UserContext.history`; it counts wherever that message is in a request,
nested filters included. The entries of a map are messages: `FeaturesEntry.value`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from meshfold.kernels.wire.table import BYTES, FIXED32, FIXED64, NONE, VARINT, Rule, Scan, Table

# Wire types of the field types that are not varints.
_WIRE = {
    FieldDescriptor.TYPE_DOUBLE: FIXED64,
    FieldDescriptor.TYPE_FIXED64: FIXED64,
    FieldDescriptor.TYPE_SFIXED64: FIXED64,
    FieldDescriptor.TYPE_FLOAT: FIXED32,
    FieldDescriptor.TYPE_FIXED32: FIXED32,
    FieldDescriptor.TYPE_SFIXED32: FIXED32,
    FieldDescriptor.TYPE_STRING: BYTES,
    FieldDescriptor.TYPE_BYTES: BYTES,
    FieldDescriptor.TYPE_MESSAGE: BYTES,
}


@dataclass(frozen=True)
class Counter:
    """Counts values of fields, or messages. scope: the message whose largest count is reported. place: the message
    whose number gives the place of that; "" for the scope itself."""

    fields: tuple[str, ...]
    scope: str = ""
    place: str = ""


class Scanner:
    """Scans requests of one message type."""

    def __init__(
        self,
        message: Descriptor,
        counters: Mapping[str, Counter] | None = None,
        captures: Sequence[str] = (),
        level: str = "",
    ) -> None:
        """counters: by names of the caller's choice. captures: string or varint fields whose last value is kept. level:
        the message whose nesting depth is counted. Raises ValueError for an unknown name."""
        self.message = message
        self.counters = tuple(counters or ())
        self.captures = tuple(captures)
        self.table = _table(message, counters or {}, self.captures, level)

    def holds(self, name: str) -> Descriptor:
        """The message of a name within the scanned one. Raises ValueError where there is none."""
        for message in _reachable(self.message):
            if message.name == name:
                return message
        raise ValueError(f"{self.message.full_name} holds no message {name}")

    def scan(self, message: bytes, most_fields: int) -> Scan:
        """See meshfold.kernels.wire.scan.scan."""
        # Imported here, since it imports torch, which command lines do not need.
        from meshfold.kernels.wire.scan import scan

        return scan(self.table, message, most_fields)


def _table(
    message: Descriptor, counters: Mapping[str, Counter], captures: Sequence[str], level: str
) -> Table:
    counted = {field: c for c, counter in enumerate(counters.values()) for field in counter.fields}
    captured = {field: c for c, field in enumerate(captures)}
    reachable = _reachable(message)
    fields = {f"{m.name}.{f.name}": f for m in reachable for f in m.fields}
    names = {m.name for m in reachable}
    for name in {*counted, *captured} - set(fields):
        raise ValueError(f"{message.full_name} holds no field {name}")
    for name in {level, *(n for c in counters.values() for n in (c.scope, c.place))} - names - {""}:
        raise ValueError(f"{message.full_name} holds no message {name}")
    if len(names) < len(reachable):
        raise ValueError(f"{message.full_name} holds two messages of one name")
    # Messages without counted or captured fields are skipped.
    entered = [
        m
        for m in reachable
        if any(
            f"{r.name}.{f.name}" in counted or f"{r.name}.{f.name}" in captured
            for r in _reachable(m)
            for f in r.fields
        )
        or m is message
    ]
    places = {m.name: place for place, m in enumerate(entered)}

    def rule(name: str, field: FieldDescriptor) -> Rule | None:
        child = places.get(field.message_type.name, NONE) if field.message_type else NONE
        made = Rule(_WIRE.get(field.type, VARINT), child, counted.get(name, NONE), captured.get(name, NONE))
        return None if made == Rule(made.wire) else made

    types = []
    for m in entered:
        numbers = {f.number: rule(f"{m.name}.{f.name}", f) for f in m.fields}
        types.append(tuple(numbers.get(n) for n in range(max(numbers, default=0) + 1)))
    return Table(
        types=tuple(types),
        level=places.get(level, NONE),
        counters=tuple(
            (places.get(c.scope, NONE), places.get(c.place or c.scope, NONE)) for c in counters.values()
        ),
        captures=len(captures),
    )


def _reachable(message: Descriptor) -> list[Descriptor]:
    """A message and all messages that it may contain, in a fixed order."""
    found = {message.full_name: message}
    waiting = [message]
    while waiting:
        for field in waiting.pop().fields:
            inner = field.message_type
            if inner is not None and inner.full_name not in found:
                found[inner.full_name] = inner
                waiting.append(inner)
    return list(found.values())
