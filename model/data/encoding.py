"""Encoding of table columns as the integer columns of a catalog, with array operations."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshfold.model.data.catalog import Column
from meshfold.model.data.table_column import TableColumn
from meshfold.model.errors import InvalidData
from meshfold.model.schema import FieldKind
from meshfold.model.types import Int64s


def encode_column(kind: FieldKind, column: TableColumn, separator: str | None = None) -> Column:
    """A filterable field of N items from a column of N rows.

    separator: the text between values of a many-valued field that is written as strings. Nulls are missing values, and
    so is NaN for kind number. Raises InvalidData where a value does not fit the kind.
    """
    if kind is FieldKind.NUMBER:
        numbers = column.floats().fill_null(np.nan).to_numpy()
        return Column.of_numbers(np.asarray(numbers, np.float64))
    if not kind.many and column.is_list:
        raise column.misfit("one value a row", f"make the field's kind {_many(kind)}")
    if kind.many and separator is None and not column.is_list and not column.is_empty:
        raise column.misfit("lists", "set the field's separator, or write a list column")
    parts = column.each(separator if kind.many and not column.is_list else None)
    assert parts.rows is not None
    values = parts.strings() if kind.holds_strings else parts.integers()
    codes, known = _dictionary(values)
    offsets, codes = _in_order(parts.rows, codes, len(column), len(known))
    if kind.holds_strings:
        return Column(kind, offsets, codes, tuple(known.to_pylist()))
    return Column(kind, offsets, np.asarray(known.to_numpy(zero_copy_only=False), np.int64)[codes])


def encode_text(column: TableColumn) -> list[str]:
    """[N] strings, "" for a missing value. Raises InvalidData for a column of lists."""
    if column.is_list:
        raise column.misfit("one string a row", f"make the field's kind {FieldKind.CATEGORIES}")
    texts: list[str] = column.strings().fill_null("").to_pylist()
    return texts


def _many(kind: FieldKind) -> FieldKind:
    return FieldKind.CATEGORIES if kind is FieldKind.CATEGORY else FieldKind.INTEGERS


def _dictionary(values: pa.ChunkedArray) -> tuple[Int64s, pa.Array]:
    """(codes: [n] int64 - indices into the distinct values; the distinct values in ascending order)."""
    if len(values) == 0:
        return np.empty(0, np.int64), pa.array([], values.type)
    encoded = values.dictionary_encode().unify_dictionaries()
    known = encoded.chunk(0).dictionary
    order = np.asarray(pc.sort_indices(known).to_numpy(), np.int64)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    codes = np.concatenate([np.asarray(chunk.indices.to_numpy(), np.int64) for chunk in encoded.chunks])
    return rank[codes], known.take(pa.array(order))


def _in_order(rows: Int64s, codes: Int64s, n: int, distinct: int) -> tuple[Int64s, Int64s]:
    """(offsets: [n + 1], codes), sorted and without duplicates within each row. rows: ascending."""
    if n * max(distinct, 1) >= 2**63:
        raise InvalidData(f"{n} items times {distinct} distinct values are too many; split the field")
    keys = rows * max(distinct, 1) + codes
    if (keys[1:] <= keys[:-1]).any():
        # Instead of np.unique, which hashes first: 10 s against 0.1 s for 8 million values.
        keys = np.sort(keys)
        keys = keys[np.append(True, keys[1:] != keys[:-1])]
        rows, codes = np.divmod(keys, max(distinct, 1))
    offsets = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=n), out=offsets[1:])
    return offsets, codes
