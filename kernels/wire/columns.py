"""A protobuf message as columns: what fields it has, and the values of all its parts, field by field.

A message within a message is a message of its own, whatever its type: each field of the tree has one column, which
holds the values of all instances of its message back to back. Nothing here needs torch, so that layouts are made where
a module is imported.
Sources: S. Melnik and others, Dremel, VLDB 2010, section 4; https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from meshfold.kernels.wire.table import NONE

Int64s = npt.NDArray[np.int64]

# Numbers of a column in a native call; kernels/cpp/wire/write.cpp.
GIVEN = 7
# Bytes of the longest varint, and of the longest tag or length.
VARINT_BYTES, HEAD_BYTES = 10, 5
# Tags have 32 bits: the field's number and three bits of wire type.
_MOST_TAG = (1 << 32) - 1


class Kind(IntEnum):
    """How a value is written. The first four are wire types.

    VARINT: int64 or uint64 values. FIXED64, FIXED32: values of 8 and 4 bytes. BYTES: bytes after their length. RAW:
    bytes that bring their own tags. MESSAGE: the fields of a message, after its length.
    """

    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    FIXED32 = 5
    RAW = 6
    MESSAGE = 7


class Form(IntEnum):
    """Which values of a field are written.

    EACH: every value after a tag. UNLESS_ZERO: every value but 0, "" and 0.0; -0.0 is written. PACKED: all values of an
    instance after one tag and one length; nothing where there are none.
    """

    EACH = 0
    UNLESS_ZERO = 1
    PACKED = 2


_NUMBERS = (Kind.VARINT, Kind.FIXED32, Kind.FIXED64)


@dataclass(frozen=True, slots=True)
class FieldLayout:
    """tag: the field's number and wire type as they are written. child: the message that a MESSAGE field holds."""

    tag: int
    kind: Kind
    form: Form = Form.EACH
    child: int = NONE


class NativeLayout(ctypes.Structure):
    """struct WireLayout of kernels/cpp/native/meshfold.h."""

    _fields_ = (
        ("fields", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("messages", ctypes.c_int64),
    )


@dataclass(frozen=True, eq=False)
class Layout:
    """messages: the fields of each, in the order in which they are written; message 0 is outermost. Every other message
    is the child of one field, of a message before it. Raises ValueError for a layout that is none."""

    messages: tuple[tuple[FieldLayout, ...], ...]

    def __post_init__(self) -> None:
        children = set[int]()
        for place, fields in enumerate(self.messages):
            for field in fields:
                if not 8 <= field.tag <= _MOST_TAG or (field.kind is Kind.MESSAGE) is (field.child == NONE):
                    raise ValueError(f"a field that no message holds: {field}")
                if field.form is Form.PACKED and field.kind in (Kind.BYTES, Kind.RAW, Kind.MESSAGE):
                    raise ValueError(f"only numbers are packed, got {field}")
                if field.form is Form.UNLESS_ZERO and field.kind in (Kind.RAW, Kind.MESSAGE):
                    raise ValueError(f"a message has no value that stands for none, got {field}")
                if field.child != NONE and not place < field.child < len(self.messages):
                    raise ValueError(f"a message that does not come after its field's: {field}")
                if field.child in children:
                    raise ValueError(f"two fields hold message {field.child}")
                children |= {field.child} - {NONE}
        if children != set(range(1, len(self.messages))):
            raise ValueError(f"messages 1 to {len(self.messages) - 1} are fields' children, got {children}")

    @cached_property
    def fields(self) -> tuple[tuple[int, FieldLayout], ...]:
        """The message and the layout of every field, in the order of columns: message by message."""
        return tuple((m, field) for m, fields in enumerate(self.messages) for field in fields)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The most bytes that a value of each field takes, less those of its string."""
        of_kind = {Kind.VARINT: VARINT_BYTES, Kind.FIXED32: 4, Kind.FIXED64: 8}
        return tuple(2 * HEAD_BYTES + of_kind.get(field.kind, 0) for _, field in self.fields)

    @cached_property
    def native(self) -> tuple[NativeLayout, object]:
        """As the kernel takes it, and what that points to."""
        numbers = [n for _, f in self.fields for n in (f.tag, f.kind, f.form, f.child)]
        starts = [0]
        for fields in self.messages:
            starts.append(starts[-1] + len(fields))
        held = [(ctypes.c_int64 * len(n))(*n) for n in (numbers, starts)]
        return NativeLayout(*map(ctypes.addressof, held), len(self.messages)), held


@dataclass(slots=True, eq=False)
class Column:
    """The values of a field in all instances of its message, back to back.

    counts: how many values each instance has: one number for all, or [instances] int64. values: [n] int64 or uint64 of
    a VARINT field; [n] of 4 or 8 bytes of a fixed one; all bytes of a BYTES or RAW field; None for a MESSAGE field.
    lengths: the bytes of each value of a BYTES or RAW field, one number for all or [n] int64.
    """

    counts: int | Int64s
    values: npt.NDArray[Any] | bytes | None = None
    lengths: int | Int64s | None = None


ABSENT = Column(0)


def totals(layout: Layout, columns: Sequence[Column]) -> list[int]:
    """How many values each column has. Raises ValueError where a column does not fit its field, or counts do not fit
    the instances of their message."""
    if len(columns) != len(layout.fields):
        raise ValueError(f"a layout of {len(layout.fields)} fields needs as many columns, got {len(columns)}")
    instances = [1] * len(layout.messages)
    found = []
    for (message, field), column in zip(layout.fields, columns, strict=True):
        counts = column.counts
        if type(counts) is int:
            total = counts * instances[message]
            fits = counts >= 0
        else:
            assert isinstance(counts, np.ndarray)
            total = int(counts.sum())
            fits = (
                counts.dtype == np.int64
                and counts.shape == (instances[message],)
                and bool((counts >= 0).all())
            )
        if not fits:
            raise ValueError(f"counts must be {instances[message]} int64 from 0 on, got {counts}")
        if total and not _fits(field, column, total):
            raise ValueError(f"a column of {total} values does not fit its field {field}")
        if field.child != NONE:
            instances[field.child] = total
        found.append(total)
    return found


def _fits(field: FieldLayout, column: Column, total: int) -> bool:
    values, lengths = column.values, column.lengths
    if isinstance(values, np.ndarray):
        size = 4 if field.kind is Kind.FIXED32 else 8
        return (
            lengths is None
            and values.shape == (total,)
            and values.itemsize == size
            and field.kind in _NUMBERS
        )
    if isinstance(values, bytes):
        if isinstance(lengths, np.ndarray):
            fits = lengths.shape == (total,) and lengths.dtype == np.int64
        else:
            fits = lengths is not None and lengths * total == len(values)
        return fits and field.kind in (Kind.BYTES, Kind.RAW)
    return field.kind is Kind.MESSAGE
