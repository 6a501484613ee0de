"""Columns of ids: integers as they are, strings as their stable 64-bit hashes beside the strings themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshfold.model.data.table_column import TableColumn, is_string
from meshfold.model.errors import InvalidData
from meshfold.model.item_ids import keys_of_strings
from meshfold.model.schema import MAX_ID_BYTES, IdKind
from meshfold.model.strings import PackedStrings
from meshfold.model.types import Int64s

# A whole number as a program writes it: its string can be had back from the integer.
_CANONICAL = r"^(0|-?[1-9][0-9]{0,18})$"
_WHOLE = r"^\s*[+-]?[0-9]+(\.0*)?\s*$"
_LEADING_ZEROS = r"^\s*[+-]?0[0-9]"


@dataclass(frozen=True, eq=False)
class TableIds:
    """keys: [n] int64 - integers, or hashes of strings. names: the strings; None where ids are integers."""

    keys: Int64s
    names: PackedStrings | None

    @property
    def kind(self) -> IdKind:
        return IdKind.INTEGERS if self.names is None else IdKind.STRINGS

    @property
    def ids(self) -> Int64s | Sequence[str]:
        """The ids as the table has them."""
        return self.keys if self.names is None else self.names


def read_item_ids(column: TableColumn, declared: IdKind | None = None) -> TableIds:
    """The ids of items. declared: what they are; None: what the column's type or, in CSV, its first cell says.

    Raises InvalidData at the first row without an id of that kind.
    """
    kind = declared or (IdKind.STRINGS if _holds_strings(column) else IdKind.INTEGERS)
    return _strings(column) if kind is IdKind.STRINGS else TableIds(_integers(column), None)


def read_user_ids(column: TableColumn) -> Int64s:
    """[n] int64 keys of users: integers where every cell is one, else hashes of strings."""
    values = column.values
    if column.from_text:
        cells = pc.match_substring_regex(column.strings(), _CANONICAL)
        whole = pc.all(cells, min_count=0).as_py() and not values.null_count
        if whole and _fits_int64(column):
            return column.ids()
    return read_item_ids(column, IdKind.STRINGS if column.from_text else None).keys


def _holds_strings(column: TableColumn) -> bool:
    if not column.from_text:
        return is_string(column.values.type)
    first = column.values.drop_null().slice(0, 1)
    if not len(first):
        return False
    whole = pc.match_substring_regex(first, _WHOLE)[0].as_py()
    return not whole or bool(pc.match_substring_regex(first, _LEADING_ZEROS)[0].as_py())


def _fits_int64(column: TableColumn) -> bool:
    try:
        column.integers()
    except InvalidData:
        return False
    return True


def _integers(column: TableColumn) -> Int64s:
    if column.from_text or _holds_strings(column):
        padded = pc.match_substring_regex(column.strings(), _LEADING_ZEROS).fill_null(False)
        if pc.any(padded, min_count=0).as_py():
            bad = int(np.argmax(padded.to_numpy()))
            raise column.fault(
                bad,
                f"expected an integer id, got {column.values[bad].as_py()!r}, which begins with zeros;"
                ' where ids are strings, set ids = "strings" in [items]',
            )
    return column.ids()


def _strings(column: TableColumn) -> TableIds:
    values = _as_strings(column)
    lengths = pc.binary_length(values).fill_null(0).to_numpy()
    missing, long = lengths == 0, lengths > MAX_ID_BYTES
    if missing.any():
        raise column.fault(int(np.argmax(missing)), "the id is missing; every row needs one")
    if long.any():
        bad = int(np.argmax(long))
        raise column.fault(bad, f"the id has {lengths[bad]} bytes; an id has at most {MAX_ID_BYTES}")
    whole = values.combine_chunks()
    names = _packed(whole)
    # Each distinct string is hashed once: interactions name an item many times.
    encoded = whole.dictionary_encode()
    keys = keys_of_strings(encoded.dictionary.to_pylist())
    return TableIds(keys[np.asarray(encoded.indices.to_numpy(), np.int64)], names)


def _as_strings(column: TableColumn) -> pa.ChunkedArray:
    """The column as large strings; whole numbers as their decimal digits."""
    if column.from_text or _holds_strings(column):
        return column.strings()
    return column.integers().cast(pa.large_string())


def _packed(values: pa.LargeStringArray) -> PackedStrings:
    """The strings without a copy: values: without nulls."""
    _, offsets, data = values.buffers()
    places = np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1]
    held = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return PackedStrings(places, held)
