"""The bytes of a protobuf message out of columns, as protobuf's own writers write them.

Fields come in the layout's order. A message is written from its last byte to its first, so that the length of a part is
known when it is needed. Bits of floats are written as they are.
Source: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from meshfold.kernels.native import library
from meshfold.kernels.wire.columns import (
    GIVEN,
    VARINT_BYTES,
    Column,
    Form,
    Int64s,
    Kind,
    Layout,
    totals,
)
from meshfold.kernels.wire.table import NONE

Bytes = npt.NDArray[np.uint8]

# As protobuf has it: 2 GiB - 1.
MOST_BYTES = (1 << 31) - 1


def write(layout: Layout, columns: Sequence[Column]) -> bytes:
    """The message. columns: as layout.fields has them. Raises ValueError where a column does not fit its field, and for
    a message of 2 GiB. Python's lock is not held while it is written."""
    if not library.is_available():
        return write_reference(layout, columns)
    counted = totals(layout, columns)
    given = list[int]()
    capacity = 0
    held = list[Any]()
    texts = [c.values for c, n in zip(columns, counted, strict=True) if n and isinstance(c.values, bytes)]
    # One address for all: a call has many short strings.
    text_at, end = _address(b"".join(texts), held), 0
    for size, column, total in zip(layout.sizes, columns, counted, strict=True):
        if total == 0:
            given += (0,) * GIVEN
            continue
        values, lengths, counts = column.values, column.lengths, column.counts
        bytes_ = 0
        if isinstance(values, bytes):
            values_at, bytes_ = text_at + end, len(values)
            end += bytes_
        else:
            values_at = 0 if values is None else _address(values, held)
        lengths_at, length = (
            (0, lengths or 0) if not isinstance(lengths, np.ndarray) else (_address(lengths, held), 0)
        )
        counts_at, count = (0, counts) if isinstance(counts, int) else (_address(counts, held), 0)
        given += (values_at, lengths_at, counts_at, length, count, total, bytes_)
        capacity += bytes_ + total * size
    buffer = np.empty(capacity, np.uint8)
    start = ctypes.c_int64()
    made, _ = layout.native
    library.call(
        "write_wire",
        *(ctypes.byref(made), ctypes.c_void_p(_address(np.array(given, np.int64), held))),
        *(ctypes.c_void_p(_address(buffer, held)), capacity, ctypes.byref(start)),
    )
    return _checked(buffer[start.value :])


def _address(values: npt.NDArray[Any] | bytes, held: list[Any]) -> int:
    """The address of the contiguous values, valid while `held` exists."""
    array = np.frombuffer(values, np.uint8) if isinstance(values, bytes) else np.ascontiguousarray(values)
    held.append(array)
    address: int = array.__array_interface__["data"][0]
    return address


@dataclass(slots=True)
class _Ragged:
    """lengths: [n] int64. data: the bytes of n strings, back to back."""

    data: Bytes
    lengths: Int64s


def write_reference(layout: Layout, columns: Sequence[Column]) -> bytes:
    """The same in numpy: each message's fields as strings of bytes, one an instance, children before parents."""
    counted = totals(layout, columns)
    by_message: list[list[_Ragged]] = [[] for _ in layout.messages]
    instances = [1] * len(layout.messages)
    for (_, field), total in zip(layout.fields, counted, strict=True):
        if field.child != NONE:
            instances[field.child] = total
    for place in reversed(range(len(columns))):
        (message, field), column = layout.fields[place], columns[place]
        n = instances[message]
        counts = np.full(n, column.counts) if isinstance(column.counts, int) else column.counts
        if not counts.any():
            continue
        tag = _varints(np.array([field.tag]))
        match field.kind:
            case Kind.MESSAGE:
                parts = by_message[field.child][::-1]
                values = _joined(parts) if parts else _empty(instances[field.child])
            case Kind.BYTES | Kind.RAW:
                assert isinstance(column.values, bytes)
                assert column.lengths is not None
                lengths = np.broadcast_to(np.asarray(column.lengths, np.int64), counted[place])
                if (lengths < 0).any() or lengths.sum() != len(column.values):
                    raise ValueError("lengths must be from 0 on and add up to the bytes that there are")
                values = _Ragged(np.frombuffer(column.values, np.uint8), lengths)
            case Kind.VARINT:
                assert isinstance(column.values, np.ndarray)
                values = _varints(column.values)
            case _:
                assert isinstance(column.values, np.ndarray)
                values = _fixed(column.values)
        if field.form is Form.UNLESS_ZERO:
            assert column.values is not None
            kept = values.lengths > 0 if field.kind is Kind.BYTES else _is_set(column.values)
            counts = _sums(kept.astype(np.int64), counts)
            values = _Ragged(values.data[np.repeat(kept, values.lengths)], values.lengths[kept])
        if field.form is Form.PACKED:
            values = _Ragged(values.data, _sums(values.lengths, counts)[counts > 0])
            counts = (counts > 0).astype(np.int64)
        if field.kind is not Kind.RAW:
            m = len(values.lengths)
            tags = _Ragged(np.tile(tag.data, m), np.repeat(tag.lengths, m))
            has_length = field.form is Form.PACKED or field.kind in (Kind.BYTES, Kind.MESSAGE)
            values = _joined([tags, _varints(values.lengths), values] if has_length else [tags, values])
        by_message[message].append(_Ragged(values.data, _sums(values.lengths, counts)))
    return _checked(_joined(by_message[0][::-1]).data) if by_message[0] else b""


def _checked(message: Bytes) -> bytes:
    if len(message) > MOST_BYTES:
        raise ValueError(f"a message has up to {MOST_BYTES} bytes, this one {len(message)}; ask for less")
    return message.tobytes()


def _is_set(values: npt.NDArray[Any] | bytes) -> npt.NDArray[np.bool_]:
    """[n]: whether any bit of each number is set, so that -0.0 is."""
    assert isinstance(values, np.ndarray)
    is_set: npt.NDArray[np.bool_] = values.view(f"u{values.dtype.itemsize}") != 0
    return is_set


def _varints(values: npt.NDArray[Any]) -> _Ragged:
    """Seven bits a byte, the lowest first, the high bit set in all but the last."""
    bits = values.astype(np.uint64) if values.dtype != np.int64 else values.view(np.uint64)
    places = np.arange(VARINT_BYTES)
    groups = bits[:, None] >> (7 * places).astype(np.uint64)
    lengths = np.maximum((groups > 0).sum(1), 1)
    more = places < (lengths - 1)[:, None]
    digits = (groups & 0x7F).astype(np.uint8) | np.where(more, 0x80, 0).astype(np.uint8)
    return _Ragged(digits[places < lengths[:, None]], lengths)


def _fixed(values: npt.NDArray[Any]) -> _Ragged:
    """The lowest byte first."""
    size = values.dtype.itemsize
    data = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False).view(np.uint8)
    return _Ragged(data, np.full(len(values), size))


def _empty(n: int) -> _Ragged:
    return _Ragged(np.empty(0, np.uint8), np.zeros(n, np.int64))


def _sums(values: Int64s, counts: Int64s) -> Int64s:
    """[len(counts)]: the sum of each instance's values."""
    ends = np.concatenate([[0], np.add.accumulate(values)]) if len(values) else np.zeros(1, np.int64)
    last = np.add.accumulate(counts)
    return np.asarray(ends[last] - ends[last - counts], np.int64)


def _joined(parts: Sequence[_Ragged]) -> _Ragged:
    """String i of all parts in turn, as one."""
    lengths = np.stack([part.lengths for part in parts], 1)
    ends = np.add.accumulate(lengths.ravel()).reshape(lengths.shape)
    data = np.empty(int(lengths.sum()), np.uint8)
    for p, part in enumerate(parts):
        # From the place of a byte in its part to its place in the whole.
        moved = ends[:, p] - np.add.accumulate(part.lengths)
        data[np.arange(len(part.data)) + np.repeat(moved, part.lengths)] = part.data
    return _Ragged(data, lengths.sum(1))
