"""The fields of a protobuf message to count or capture, and the result of a scan (kernels/wire/scan.py).

Nothing here needs torch, so that tables are made where a module is imported.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import chain
from typing import NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
NONE = -1

# In the result: verdict, fields, levels; then five numbers a counter; then two a capture.
HEAD, COUNTED = 3, 5


class NativeTable(ctypes.Structure):
    """struct WireTable of kernels/cpp/native/meshfold.h."""

    _fields_ = (
        ("rules", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("counters", ctypes.c_void_p),
        ("types", ctypes.c_int32),
        ("level", ctypes.c_int32),
        ("counter_count", ctypes.c_int32),
        ("capture_count", ctypes.c_int32),
    )


class Verdict(IntEnum):
    """The outcome of a scan. Counts are valid for MESSAGE only."""

    MESSAGE = 0
    MALFORMED = 1
    TOO_MANY_FIELDS = 2
    TOO_NESTED = 3


_VERDICTS = tuple(Verdict)


@dataclass(frozen=True, slots=True)
class Rule:
    """How to scan a field. wire: the wire type of one value. child: the type of the message to enter. counter: counts
    its values or messages. capture: the place that keeps its value. NONE for none."""

    wire: int
    child: int = NONE
    counter: int = NONE
    capture: int = NONE


class Count(NamedTuple):
    """total: of all messages. largest: of one message of the counter's scope, the first of the largest; `place` says
    which message of the counter's place that was, or was in, from 0 on; start, end: where its bytes lie.

    Without a scope the largest is the total, and place, start and end are 0.
    """

    total: int
    largest: int
    place: int
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class Table:
    """types: the rules by field number of each type of message, None for a field to pass over; type 0 is outermost.
    level: the type of which levels are counted, NONE for none. counters: the scope and the place of each, types or
    NONE; a scope may not lie within itself. captures: how many there are."""

    types: tuple[tuple[Rule | None, ...], ...]
    level: int
    counters: tuple[tuple[int, int], ...]
    captures: int

    def __post_init__(self) -> None:
        types = len(self.types)
        for rule in filter(None, chain(*self.types)):
            allowed = (rule.child, types), (rule.counter, len(self.counters)), (rule.capture, self.captures)
            if rule.wire not in (VARINT, FIXED64, BYTES, FIXED32) or not all(
                NONE <= n < m for n, m in allowed
            ):
                raise ValueError(f"a rule that the table does not hold: {rule}")
            if rule.child != NONE and rule.wire != BYTES:
                raise ValueError(f"a message has wire type {BYTES}, got {rule}")
            if rule.capture != NONE and rule.wire not in (VARINT, BYTES):
                raise ValueError(f"only varints and bytes can be captured, got {rule}")
        for number in (self.level, *chain(*self.counters)):
            if not NONE <= number < types:
                raise ValueError(f"a type of message that the table does not hold: {number}")
        for scope, _ in self.counters:
            if scope != NONE and scope in self._within(scope):
                raise ValueError(f"a scope that may lie within itself: {scope}")

    def _within(self, type_: int) -> set[int]:
        """The types of the messages that may lie in one."""
        found, waiting = set[int](), [type_]
        while waiting:
            inner = {rule.child for rule in filter(None, self.types[waiting.pop()])} - found - {NONE}
            found |= inner
            waiting += inner
        return found

    @property
    def numbers(self) -> int:
        """How many a scan gives."""
        return HEAD + COUNTED * len(self.counters) + 2 * self.captures

    @cached_property
    def scopes(self) -> tuple[tuple[int, ...], ...]:
        """The counters of each type of scope."""
        return tuple(
            tuple(c for c, (scope, _) in enumerate(self.counters) if scope == t)
            for t in range(len(self.types))
        )

    @cached_property
    def native(self) -> tuple[NativeTable, object]:
        """As the kernel takes it, and what that points to."""
        return _native(self)


@dataclass(frozen=True, slots=True)
class Scan:
    """numbers: verdict, fields, levels, counts and captures, one after the other."""

    table: Table
    numbers: list[int]

    @property
    def verdict(self) -> Verdict:
        return _VERDICTS[self.numbers[0]]

    @property
    def fields(self) -> int:
        """In all messages that were gone into."""
        return self.numbers[1]

    @property
    def levels(self) -> int:
        """The most messages of the table's level within one another."""
        return self.numbers[2]

    def total(self, counter: int) -> int:
        return self.numbers[HEAD + COUNTED * counter]

    def largest(self, counter: int) -> int:
        return self.numbers[HEAD + COUNTED * counter + 1]

    def count(self, counter: int) -> Count:
        start = HEAD + COUNTED * counter
        return Count(*self.numbers[start : start + COUNTED])

    def span(self, capture: int) -> tuple[int, int]:
        """Start and end of the bytes; (0, 0) without a capture."""
        start, end = self._captured(capture)
        return (start, end) if end != NONE else (0, 0)

    def number(self, capture: int) -> int:
        """The signed 64-bit number; 0 without a capture."""
        number, _ = self._captured(capture)
        return number

    def _captured(self, capture: int) -> list[int]:
        start = HEAD + COUNTED * len(self.table.counters) + 2 * capture
        return self.numbers[start : start + 2]


def _native(table: Table) -> tuple[NativeTable, object]:
    """The table as the kernel takes it, and what it points to."""
    rules, starts = list[int](), [0]
    for fields in table.types:
        for rule in fields:
            # No field has wire type NONE.
            rules += (NONE,) * 4 if rule is None else (rule.wire, rule.child, rule.counter, rule.capture)
        starts.append(len(rules) // 4)
    held = [(ctypes.c_int32 * len(n))(*n) for n in (rules, starts, list(chain(*table.counters)))]
    made = NativeTable(
        *map(ctypes.addressof, held), len(table.types), table.level, len(table.counters), table.captures
    )
    return made, held
