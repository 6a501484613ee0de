"""The filter index of a snapshot: exact columns, and the signature that narrows before they are read.

Rows of the signature, F fields first:
    0 .. F - 1          whether the item has the field
    planes              one row a value, exact, for each field of at most PLANE_VALUES values
    Bloom rows          HASHES rows a value among the last rows, for the other fields but numbers

A value is hashed together with its field, so that equal values of two fields share no bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from meshfold.model.data.catalog import Column
from meshfold.model.schema import FieldKind, Schema
from meshfold.model.types import Int64s

BUNDLE_ITEMS = 512
PLANE_VALUES = 64
HASHES = 4
# Bloom rows for each value that an item holds on average: 4 hashes then set a quarter of them, and 0.65 % of
# the items without a value are taken to have it.
ROWS_PER_VALUE = 12
_BUNDLES_AT_A_TIME = 64
_VALUES_AT_A_TIME = 65_536


@dataclass(frozen=True, eq=False)
class FieldIndex:
    """Where one field stands. plane_values: sorted int64 with an exact row each from `first_plane` on; None
    where the field's values are hashed, or, for a number, only known to be there."""

    kind: FieldKind
    first_plane: int
    plane_values: Int64s | None


@dataclass(frozen=True, eq=False)
class FilterLayout:
    """Which rows of the signature stand for what. bloom_rows: 0 where no field is hashed."""

    fields: tuple[FieldIndex, ...]
    first_bloom: int
    bloom_rows: int

    @property
    def rows(self) -> int:
        return self.first_bloom + self.bloom_rows

    def value_rows(self, field: int, values: Int64s) -> Int64s:
        """values: [n] int64 -> [n, HASHES] int64, the rows set for each; -1 for values that no item holds."""
        index = self.fields[field]
        if index.plane_values is not None:
            if not len(index.plane_values):
                return np.full((len(values), HASHES), -1, np.int64)
            place = np.searchsorted(index.plane_values, values).clip(max=len(index.plane_values) - 1)
            row = np.where(index.plane_values[place] == values, index.first_plane + place, -1)
            return np.repeat(row[:, None], HASHES, axis=1)
        if index.kind is FieldKind.NUMBER:
            return np.full((len(values), HASHES), field, np.int64)
        first = _mix(values.view(np.uint64) ^ _mix(np.uint64(field + 1)))
        second = _mix(first) | np.uint64(1)
        hashed = first[:, None] + np.arange(HASHES, dtype=np.uint64) * second[:, None]
        return self.first_bloom + (hashed % np.uint64(self.bloom_rows)).astype(np.int64)


def layout_of(schema: Schema, columns: Mapping[str, Column]) -> FilterLayout:
    """Which fields get planes, and how many Bloom rows the others share."""
    fields = []
    row = len(schema.filterable)
    hashed_values = 0.0
    for f in schema.filterable:
        column = columns[f.name]
        distinct = None if f.kind is FieldKind.NUMBER else _few(column.values)
        if distinct is not None:
            fields.append(FieldIndex(f.kind, row, distinct))
            row += len(distinct)
        else:
            fields.append(FieldIndex(f.kind, row, None))
            if f.kind is not FieldKind.NUMBER:
                hashed_values += len(column.values) / (len(column.offsets) - 1)
    wanted = int(np.ceil(hashed_values * ROWS_PER_VALUE))
    # Whole groups of 8 rows; a lone sparse field still gets enough rows for its hashes to differ.
    bloom_rows = 0 if wanted == 0 else max(32, -(-wanted // 8) * 8)
    return FilterLayout(tuple(fields), row, bloom_rows)


def sign(layout: FilterLayout, columns: Sequence[Column], order: Int64s) -> npt.NDArray[np.int64]:
    """The signature of all items. order: [N] int64 - the catalog's place of the item at each position ->
    [G, R, 8] int64; bit j of word w of bundle g stands for position 512 g + 64 w + j."""
    n = len(order)
    bundles = -(-n // BUNDLE_ITEMS)
    signature = np.zeros((bundles, layout.rows, BUNDLE_ITEMS // 64), np.int64)
    for start in range(0, bundles, _BUNDLES_AT_A_TIME):
        stop = min(start + _BUNDLES_AT_A_TIME, bundles)
        places = order[start * BUNDLE_ITEMS : stop * BUNDLE_ITEMS]
        bits = np.zeros(((stop - start) * BUNDLE_ITEMS, layout.rows), bool)
        for f, column in enumerate(columns):
            lengths, values = take(column, places)
            owners = np.repeat(np.arange(len(places)), lengths)
            bits[owners, f] = True
            if column.kind is not FieldKind.NUMBER:
                bits[owners[:, None], layout.value_rows(f, values)] = True
        by_row = bits.reshape(stop - start, BUNDLE_ITEMS, layout.rows).transpose(0, 2, 1)
        packed = np.packbits(by_row, axis=-1, bitorder="little")
        # packbits keeps the memory order of a single bundle, whose last axis is not contiguous.
        signature[start:stop] = np.ascontiguousarray(packed).view("<i8")
    return signature


def _few(values: Int64s) -> Int64s | None:
    """The distinct values, sorted; None where there are more than PLANE_VALUES."""
    distinct = np.empty(0, np.int64)
    # Chunk by chunk, because most fields show in the first that they have more.
    for start in range(0, len(values), _VALUES_AT_A_TIME):
        distinct = np.union1d(distinct, values[start : start + _VALUES_AT_A_TIME])
        if len(distinct) > PLANE_VALUES:
            return None
    return distinct


def take(column: Column, places: Int64s) -> tuple[Int64s, Int64s]:
    """The values of the items at `places`: lengths [n] int64 and values [sum(lengths)] int64."""
    first = column.offsets[places]
    lengths = column.offsets[places + 1] - first
    before = np.cumsum(lengths) - lengths
    entries = np.arange(int(lengths.sum())) + np.repeat(first - before, lengths)
    return lengths, column.values[entries]


def _mix(x: npt.NDArray[np.uint64] | np.uint64) -> npt.NDArray[np.uint64]:
    """splitmix64's finaliser: each bit of the input moves each bit of the output."""
    x = np.atleast_1d(x) + np.uint64(0x9E37_79B9_7F4A_7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return x ^ (x >> np.uint64(31))
