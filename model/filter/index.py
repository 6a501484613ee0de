"""The filter index of a snapshot: exact columns, and the signature, which rules out items before columns are read.

Rows of the signature, F fields first:
    0 .. F - 1      whether the item has the field
    for each field but numbers, in order:
        planes      exact rows, one a value: for all values of a field with at most PLANE_VALUES of them, else for the
                    most frequent ones, up to PLANE_VALUES, that at least one item in ITEMS_PER_PLANE has
        Bloom rows  for all other values of the field (bloom.py)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from meshfold.kernels.filter.bundles import ITEMS, WORDS, count
from meshfold.kernels.filter.sign import SignedField
from meshfold.kernels.filter.sign import sign as sign_fields
from meshfold.model.data.catalog import Column
from meshfold.model.filter.bloom import Bloom, ValuesPerItem, choose, typical_pass_rate
from meshfold.model.schema import FieldKind, Schema
from meshfold.model.types import Int64s

PLANE_VALUES = 64
# A frequent value would fill as many bits of Bloom rows as a plane has; a plane needs no check of its items.
ITEMS_PER_PLANE = 64
_VALUES_AT_A_TIME = 65_536
# A multiple of the size of a bundle.
_SIGNED_AT_A_TIME = 1 << 22

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class FieldRows:
    """The rows of a field's values. plane_values: sorted int64 - values with an exact row each.

    bloom: rows of all other values; None where there are none, and for numbers, which have a row of presence alone.
    """

    kind: FieldKind
    plane_values: Int64s
    bloom: Bloom | None = None

    @property
    def rows(self) -> int:
        return len(self.plane_values) + (0 if self.bloom is None else self.bloom.rows)

    def planes_of(self, values: Int64s) -> Int64s:
        """[n] int64 - the plane of each value, -1 where it has none. values: [n] int64."""
        if not len(self.plane_values):
            return np.full(len(values), -1, np.int64)
        place = np.searchsorted(self.plane_values, values).clip(max=len(self.plane_values) - 1)
        return np.where(self.plane_values[place] == values, place, -1)


@dataclass(frozen=True, eq=False)
class FilterLayout:
    """The layout of the signature. first_rows: the first row of each field's values. rows: number of all rows.

    hashes: the largest number of rows of a value, at least 1.
    """

    fields: tuple[FieldRows, ...]
    first_rows: tuple[int, ...]
    rows: int
    hashes: int

    @classmethod
    def of(cls, fields: Sequence[FieldRows]) -> Self:
        ends = np.cumsum([len(fields), *(f.rows for f in fields)]).tolist()
        hashes = max((f.bloom.hashes for f in fields if f.bloom is not None), default=1)
        return cls(tuple(fields), tuple(ends[:-1]), ends[-1], hashes)

    def value_rows(self, field: int, values: Int64s) -> tuple[Int64s, Bools]:
        """The rows of values: (rows: [n, hashes] int64, exact: [n] bool). values: [n] int64.

        A value with fewer rows repeats its last one; a value that no item has gets -1. exact: whether no other value
        sets the rows.
        """
        index, first = self.fields[field], self.first_rows[field]
        if index.kind is FieldKind.NUMBER:
            return np.full((len(values), self.hashes), field, np.int64), np.zeros(len(values), bool)
        plane = index.planes_of(values)
        exact = plane >= 0
        rows = np.where(exact, first + plane, -1)[:, None].repeat(self.hashes, axis=1)
        if index.bloom is not None:
            hashed = first + len(index.plane_values) + index.bloom.rows_of(values[~exact])
            rows[~exact] = hashed[:, np.minimum(np.arange(self.hashes), index.bloom.hashes - 1)]
        return rows, exact


def layout_of(schema: Schema, columns: Mapping[str, Column]) -> FilterLayout:
    """The layout for a catalog: chooses the values with planes, and the Bloom rows of the others."""
    fields = []
    for f in schema.filterable:
        column = columns[f.name]
        if f.kind is FieldKind.NUMBER:
            fields.append(FieldRows(f.kind, np.empty(0, np.int64)))
        elif (distinct := _plane_values(column.values)) is not None:
            fields.append(FieldRows(f.kind, distinct))
        else:
            fields.append(_with_bloom(f.kind, column))
    return FilterLayout.of(fields)


def _with_bloom(kind: FieldKind, column: Column) -> FieldRows:
    distinct, counts = value_counts(column.values)
    usual = np.argsort(-counts, kind="stable")[:PLANE_VALUES]
    usual = usual[counts[usual] * ITEMS_PER_PLANE >= len(column)]
    rows = FieldRows(kind, np.sort(distinct[usual]))
    hashed = np.concatenate([np.zeros(1, np.int64), np.cumsum(rows.planes_of(column.values) < 0)])
    per_item = ValuesPerItem.of(hashed[column.offsets[1:]] - hashed[column.offsets[:-1]])
    return replace(rows, bloom=choose(per_item, typical_pass_rate(np.delete(counts, usual), len(column))))


def sign(
    layout: FilterLayout, columns: Sequence[Column], order: Int64s, device: str = "cpu"
) -> npt.NDArray[np.int64]:
    """The signature of all items: [G, R, 8] int64; bit j of word w of bundle g is position 512 g + 64 w + j.

    order: [N] int64 - the place in the catalog of the item at each position. Items are copied to the device in chunks.
    """
    signature = np.empty((count(len(order)), layout.rows, WORDS), np.int64)
    for start in range(0, len(order), _SIGNED_AT_A_TIME):
        places = order[start : start + _SIGNED_AT_A_TIME]
        fields = [
            _signed(*take(column, places), field, first, device)
            for column, field, first in zip(columns, layout.fields, layout.first_rows, strict=True)
        ]
        part = sign_fields(fields, torch.arange(len(places), device=device), layout.rows)
        signature[start // ITEMS : start // ITEMS + len(part)] = part.cpu().numpy()
    return signature


def _signed(lengths: Int64s, values: Int64s, field: FieldRows, first: int, device: str) -> SignedField:
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return SignedField(
        _tensor(offsets).to(device),
        _tensor(values).to(device),
        _tensor(field.plane_values).to(device),
        first,
        0 if field.bloom is None else field.bloom.part,
        0 if field.bloom is None else field.bloom.hashes,
    )


def take(column: Column, places: Int64s) -> tuple[Int64s, Int64s]:
    """(lengths: [n] int64, values: [sum(lengths)] int64) of the items at places: [n] int64."""
    first = column.offsets[places]
    lengths = column.offsets[places + 1] - first
    before = np.cumsum(lengths) - lengths
    entries = np.arange(int(lengths.sum())) + np.repeat(first - before, lengths)
    return lengths, column.values[entries]


def value_counts(values: Int64s) -> tuple[Int64s, Int64s]:
    """(the distinct values, ascending; the count of each)."""
    if not len(values):
        return values, values
    low = int(values.min())
    if int(values.max()) - low < 4 * len(
        values
    ):  # Dense values, such as codes or years: counted without a sort.
        counts: Int64s = np.bincount(values - low)
        there = np.flatnonzero(counts)
        return there + low, counts[there]
    return np.unique(values, return_counts=True)


def _tensor(array: Int64s) -> Tensor:
    # torch warns of read-only memory.
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _plane_values(values: Int64s) -> Int64s | None:
    """The distinct values, sorted; None where there are more than PLANE_VALUES."""
    distinct = np.empty(0, np.int64)
    # Values are read in chunks, because most other fields exceed the limit in the first one.
    for start in range(0, len(values), _VALUES_AT_A_TIME):
        distinct = np.union1d(distinct, values[start : start + _VALUES_AT_A_TIME])
        if len(distinct) > PLANE_VALUES:
            return None
    return distinct
