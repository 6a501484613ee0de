"""The inverted index of the mesh: roaring bitmaps of the rows of each value, and filters over them.

Filters are compiled by the model's compiler (model/filter/program.py), so that mesh and model accept and mean the same;
here the steps are operations on bitmaps.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import assert_never

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from meshfold.compat.mesh.items import Items
from meshfold.kernels.filter.bundles import unpack
from meshfold.kernels.filter.steps import Op
from meshfold.model.filter.program import Program
from meshfold.model.snapshot import Snapshot
from meshfold.model.types import Int64s

Rows = npt.NDArray[np.uint32]

# Fewest items of a value with a stored bitmap; those of rarer values are made when needed.
_HELD_BY = 1024
# Portable format of roaring bitmaps: rows of a container, its largest array, and codes of headers.
_ROWS, _MOST_IN_ARRAY = 1 << 16, 4096
_COOKIE_OF_RUNS, _FEWEST_WITH_PLACES = 12347, 4
# Number of parts of a field's sorted entries, each with a bitmap for ranges.
_PARTS = 256


class FieldPostings:
    """The postings of a field: its sorted values, and the row of each. present: rows that have the field."""

    def __init__(self, values: Int64s, rows: Rows, ordered: bool) -> None:
        """values, rows: [entries], in any order. ordered: whether to prepare bitmaps for ranges."""
        order = np.lexsort((rows, values))
        self._values, self._rows = values[order], rows[order]
        self.present = bitmap_of(rows)
        distinct, starts, counts = np.unique(self._values, return_index=True, return_counts=True)
        usual = counts >= _HELD_BY
        self._common = {
            value: bitmap_of(self._rows[start : start + count])
            for value, start, count in zip(
                *(column[usual].tolist() for column in (distinct, starts, counts)), strict=True
            )
        }
        self._size = max(-(-len(values) // _PARTS), _HELD_BY)
        self._parts = [
            bitmap_of(self._rows[start : start + self._size])
            for start in (range(0, len(values), self._size) if ordered else ())
        ]

    def match(self, wanted: Int64s) -> BitMap:
        """The rows with any of the values. wanted: [n] int64."""
        common = [self._common[value] for value in wanted.tolist() if value in self._common]
        rare = [value for value in wanted.tolist() if value not in self._common]
        starts = np.searchsorted(self._values, rare, "left").tolist()
        ends = np.searchsorted(self._values, rare, "right").tolist()
        entries = [self._rows[start:end] for start, end in zip(starts, ends, strict=True) if end > start]
        if entries:
            common.append(bitmap_of(np.concatenate(entries)))
        return BitMap.union(*common) if common else BitMap()

    def between(self, low: int, high: int) -> BitMap:
        """The rows with a value from low to high, both included."""
        start = int(np.searchsorted(self._values, low, "left"))
        end = int(np.searchsorted(self._values, high, "right"))
        first, last = -(-start // self._size), end // self._size
        if first >= last or not self._parts:
            return bitmap_of(self._rows[start : max(start, end)])
        edges = np.concatenate([self._rows[start : first * self._size], self._rows[last * self._size : end]])
        return BitMap.union(bitmap_of(edges), *self._parts[first:last])


class Postings:
    """The postings of all filterable fields of a snapshot."""

    def __init__(self, snapshot: Snapshot, items: Items) -> None:
        n = len(items)
        self._everything = BitMap(range(n))
        rows = snapshot.index["rows"].numpy().astype(np.uint32)
        self._fields = []
        for place, (field, column, offsets) in enumerate(
            zip(snapshot.schema.filterable, *snapshot.columns(), strict=True)
        ):
            values = column.numpy().astype(np.int64)
            if field.kind.many:
                of_entry = np.repeat(rows, np.diff(offsets.numpy()))
            else:
                present = unpack(snapshot.filter["signature"][:, place], n).numpy()
                values, of_entry = values[present], rows[present]
            self._fields.append(FieldPostings(values, of_entry, field.kind.ordered))

    def passing(self, program: Program) -> BitMap | None:
        """The rows that pass a filter; None where all do."""
        stack: list[BitMap] = []
        for opcode, argument, start, count in program.steps.tolist():
            match op := Op(opcode):
                case Op.NOOP:
                    continue
                case Op.CONSTANT:
                    stack.append(self._everything if argument else BitMap())
                case Op.PLANE | Op.MATCH:
                    stack.append(self._fields[argument].match(program.values[start : start + count]))
                case Op.RANGE:
                    low, high = program.values[start : start + 2].tolist()
                    stack.append(self._fields[argument].between(low, high))
                case Op.EXISTS:
                    stack.append(self._fields[argument].present)
                case Op.NOT:
                    stack.append(self._everything - stack.pop())
                case Op.AND | Op.OR:
                    right, left = stack.pop(), stack.pop()
                    stack.append(left & right if op is Op.AND else left | right)
                case Op.AT_LEAST:
                    operands = stack[len(stack) - argument :]
                    del stack[len(stack) - argument :]
                    stack.append(self._at_least(operands, start))
                case _:
                    assert_never(op)
        (passing,) = stack
        return None if passing is self._everything else passing

    def _at_least(self, operands: Sequence[BitMap], count: int) -> BitMap:
        # at_least[j]: rows that are in at least j of the operands so far.
        at_least = [self._everything, *(BitMap() for _ in range(count))]
        for operand in operands:
            for j in range(count, 0, -1):
                at_least[j] = at_least[j] | (at_least[j - 1] & operand)
        return at_least[count]


def bitmap_of(rows: Rows) -> BitMap:
    """The bitmap of rows, [n] uint32 in any order. Sorted C arrays are ten times as fast as numpy arrays."""
    return BitMap(array("I", np.sort(rows).tobytes()))


def rows_of(passing: BitMap) -> Rows:
    """The rows, ascending."""
    return np.frombuffer(passing.to_array(), np.uint32)


def bits_of(passing: BitMap, n: int) -> npt.NDArray[np.uint8]:
    """A bitmap as one bit per row, lowest first, for Faiss's selectors: [ceil(n / 8)] uint8.

    Containers are copied from the portable format of roaring bitmaps (github.com/RoaringBitmap/RoaringFormatSpec),
    whose dense containers have this form. With half of a million rows that takes a fiftieth of setting bits one by one.
    """
    bits = np.zeros((-(-n // _ROWS), _ROWS // 8), np.uint8)
    data = passing.serialize()
    cookie, count = np.frombuffer(data, "<u4", 2).tolist()
    at, has_run = 8, np.zeros(count, bool)
    if cookie & 0xFFFF == _COOKIE_OF_RUNS:
        count = (cookie >> 16) + 1
        flags = np.frombuffer(data, np.uint8, -(-count // 8), 4)
        at, has_run = 4 + len(flags), np.unpackbits(flags, count=count, bitorder="little").astype(bool)
    keys, fewer = np.frombuffer(data, "<u2", 2 * count, at).reshape(count, 2).T.tolist()
    # Skips the offsets of containers, which are contiguous anyway.
    at += 4 * count + (0 if has_run.any() and count < _FEWEST_WITH_PLACES else 4 * count)
    for key, size, runs in zip(keys, (f + 1 for f in fewer), has_run.tolist(), strict=True):
        if runs:
            edges = np.frombuffer(data, "<u2", 2 * int(np.frombuffer(data, "<u2", 1, at)[0]), at + 2)
            at += 2 + 2 * len(edges)
            changes = np.zeros(_ROWS + 1, np.int8)
            changes[edges[::2]] = 1
            changes[edges[::2].astype(np.int64) + edges[1::2] + 1] -= 1
            bits[key] = np.packbits(np.cumsum(changes[:-1], dtype=np.int8).view(bool), bitorder="little")
        elif size > _MOST_IN_ARRAY:
            bits[key] = np.frombuffer(data, np.uint8, _ROWS // 8, at)
            at += _ROWS // 8
        else:
            flags = np.zeros(_ROWS, bool)
            flags[np.frombuffer(data, "<u2", size, at)] = True
            bits[key] = np.packbits(flags, bitorder="little")
            at += 2 * size
    return bits.reshape(-1)[: -(-n // 8)]
