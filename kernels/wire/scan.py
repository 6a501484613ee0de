"""Counts over the bytes of a protobuf message, before anything is parsed.

A table lists the fields of each type of message to count or capture; other fields are skipped by their length. A packed
list of numbers counts as its numbers. Nothing is built but the counts, so that a message costs a few nanoseconds a
field. A field whose wire type is not the table's is passed over, as parsers of protobuf do; a list of numbers may come
packed or not; of a captured field the last one counts. Groups, which proto3 has not, are refused. Strings are not
checked to be UTF-8. Source: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import ctypes
import re

from meshfold.kernels.native import library
from meshfold.kernels.wire.table import (
    BYTES,
    COUNTED,
    FIXED32,
    FIXED64,
    HEAD,
    NONE,
    VARINT,
    Scan,
    Table,
    Verdict,
)

# As parsers of protobuf have it: messages within one another, the outermost not counted.
MOST_NESTED = 100

# Bytes that end no varint, and a run of them that is too long for one.
_CONTINUED = bytes(range(0x80, 0x100))
_TOO_LONG = re.compile(rb"[\x80-\xff]{10}")
_64_BITS = (1 << 64) - 1
_SIGN = 1 << 63


def scan(table: Table, message: bytes, most_fields: int) -> Scan:
    """The counts and captures of a message. It stops at the first byte that fits no message, at the first field beyond
    most_fields, and below MOST_NESTED messages. Python's lock is not held."""
    if not library.is_available():
        return scan_reference(table, message, most_fields)
    numbers = (ctypes.c_int64 * table.numbers)()
    made, _ = table.native
    library.call("scan_wire", ctypes.byref(made), message, len(message), most_fields, numbers)
    return Scan(table, numbers[:])


class _Stop(Exception):
    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict


def scan_reference(table: Table, message: bytes, most_fields: int) -> Scan:
    """The same in plain Python, which takes about a microsecond a field."""
    numbers = [0] * table.numbers
    first_capture = HEAD + COUNTED * len(table.counters)
    numbers[first_capture + 1 :: 2] = [NONE] * table.captures
    try:
        _walk(table, message, most_fields, numbers, first_capture)
    except _Stop as stop:
        numbers = [int(stop.verdict)] + [0] * (table.numbers - 1)
    return Scan(table, numbers)


def _walk(table: Table, message: bytes, most_fields: int, numbers: list[int], first_capture: int) -> None:
    running = [0] * len(table.counters)
    seen = [0] * len(table.types)
    seen[0] = 1
    # Type, start and end of the messages that the scan is in, and the levels among them.
    stack: list[tuple[int, int, int]] = []
    type_, start, end, place = 0, 0, len(message), 0
    levels = numbers[2] = int(table.level == 0)
    fields = 0
    while True:
        if place == end:
            for c in table.scopes[type_]:
                _close(numbers, c, running, seen[table.counters[c][1]] - 1, start, end)
            levels -= type_ == table.level
            if not stack:
                break
            type_, start, end = stack.pop()
            continue
        fields += 1
        if fields > most_fields:
            raise _Stop(Verdict.TOO_MANY_FIELDS)
        tag, place = _varint(message, place, end)
        if tag < 8:
            raise _Stop(Verdict.MALFORMED)
        wire, field = tag & 7, tag >> 3
        content, after, number = _field(message, place, end, wire)
        rules = table.types[type_]
        rule = rules[field] if field < len(rules) else None
        place = after
        if rule is None:
            continue
        if wire == rule.wire:
            if rule.counter != NONE:
                running[rule.counter] += 1
            if rule.capture != NONE:
                at = first_capture + 2 * rule.capture
                numbers[at : at + 2] = (content, after) if wire == BYTES else (number, 0)
            if rule.child != NONE:
                if len(stack) == MOST_NESTED:
                    raise _Stop(Verdict.TOO_NESTED)
                stack.append((type_, start, end))
                type_, start, end, place = rule.child, content, after, content
                seen[type_] += 1
                levels += type_ == table.level
                numbers[2] = max(numbers[2], levels)
        elif wire == BYTES and rule.counter != NONE:
            running[rule.counter] += _packed(message[content:after], rule.wire)
    for c, (scope, _) in enumerate(table.counters):
        if scope == NONE:
            at = HEAD + COUNTED * c
            numbers[at] = numbers[at + 1] = running[c]
    numbers[1] = fields


def _close(numbers: list[int], c: int, running: list[int], place: int, start: int, end: int) -> None:
    """Ends a message of a counter's scope."""
    at = HEAD + COUNTED * c
    numbers[at] += running[c]
    if running[c] > numbers[at + 1]:
        numbers[at + 1 : at + COUNTED] = running[c], place, start, end
    running[c] = 0


def _field(message: bytes, place: int, end: int, wire: int) -> tuple[int, int, int]:
    """Where the content of a field begins and ends, and the number of a varint."""
    content, number = place, 0
    if wire == BYTES:
        length, content = _varint(message, place, end)
        after = content + length
    elif wire == VARINT:
        number, after = _varint(message, place, end)
        number = (number ^ _SIGN) - _SIGN
    elif wire in (FIXED32, FIXED64):
        after = place + (4 if wire == FIXED32 else 8)
    else:
        raise _Stop(Verdict.MALFORMED)
    if after > end:
        raise _Stop(Verdict.MALFORMED)
    return content, after, number


def _packed(content: bytes, wire: int) -> int:
    """The number of values of a packed list; 0 for a field whose values are not numbers."""
    if wire in (FIXED32, FIXED64):
        numbers, rest = divmod(len(content), 4 if wire == FIXED32 else 8)
        if rest:
            raise _Stop(Verdict.MALFORMED)
        return numbers
    if content and (content[-1] >= 0x80 or _TOO_LONG.search(content)):
        raise _Stop(Verdict.MALFORMED)
    return len(content.translate(None, _CONTINUED))


def _varint(message: bytes, place: int, end: int) -> tuple[int, int]:
    """The number at `place`, of which 64 bits are kept, and where it ends. Seven bits a byte, the lowest first, ten
    bytes at most."""
    if place < end and message[place] < 0x80:
        return message[place], place + 1
    number = 0
    for shift, at in zip(range(0, 70, 7), range(place, end), strict=False):
        byte = message[at]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & _64_BITS, at + 1
    raise _Stop(Verdict.MALFORMED)
