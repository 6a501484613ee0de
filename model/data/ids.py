"""Columns of ids as int64 keys: integers themselves, or stable 64-bit hashes of strings, kept with the strings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshfold.model.data.catalog import repeated
from meshfold.model.data.exact_numbers import Altered, may_hold
from meshfold.model.data.table_column import TableColumn, is_string
from meshfold.model.errors import InvalidData
from meshfold.model.item_ids import keys_of_strings
from meshfold.model.schema import MAX_ID_BYTES, IdKind
from meshfold.model.strings import PackedStrings
from meshfold.model.types import Int64s

# Forms of whole numbers in texts, integers and floats: 17, 17.0, "17.".
_CANONICAL = r"^(0|-?[1-9][0-9]{0,18})(\.0*)?$"
# Forms of floats with an exponent. 123456e1, without point and sign, does not count: it may be a name.
_FLOAT = r"^-?([0-9]+\.[0-9]*[eE][+-]?|[0-9]+[eE][+-])[0-9]+$"
_WHOLE = r"^\s*[+-]?[0-9]+(\.0*)?\s*$"
# Texts of integers that differ from the integer's own text, so that two ids could become one.
_LEADING_ZEROS = r"^\s*[+-]?0[0-9]"
_EXPONENT = r"^[+-]?[0-9.]+[eE][+-]?[0-9]+$"
_NOT_BACK = {_LEADING_ZEROS: "which begins with zeros", _EXPONENT: "which has an exponent"}


@dataclass(frozen=True, eq=False)
class TableIds:
    """The ids of a table. keys: [n] int64 - integers, or hashes of strings. names: the strings, None for integers."""

    keys: Int64s
    names: PackedStrings | None

    @property
    def kind(self) -> IdKind:
        return IdKind.INTEGERS if self.names is None else IdKind.STRINGS

    @property
    def ids(self) -> Int64s | Sequence[str]:
        """The ids of the table: strings, or integers."""
        return self.keys if self.names is None else self.names


def read_item_ids(column: TableColumn, declared: IdKind | None = None) -> TableIds:
    """The ids of items. declared: their kind; None takes it from the column's type or, in CSV, from its first cell.

    Raises InvalidData at the first row without an id of that kind.
    """
    kind = declared or (IdKind.STRINGS if _holds_strings(column) else IdKind.INTEGERS)
    return _strings(column) if kind is IdKind.STRINGS else TableIds(_integers(column), None)


def read_unique_ids(column: TableColumn, declared: IdKind | None = None) -> TableIds:
    """The ids of a table with one row for each item. Raises InvalidData that names both rows of a repeated id."""
    read = read_item_ids(column, declared)
    doubles = repeated(read.keys)
    if len(doubles):
        first = int(np.argmax(np.isin(read.keys, doubles)))
        second = int(np.flatnonzero(read.keys == read.keys[first])[1])
        one, other = read.ids[first], read.ids[second]
        if one != other:
            message = (
                f"the ids {one!r} ({column.row_named(first)}) and {other!r} have one 64-bit hash; rename one"
            )
            raise column.fault(second, message)
        more = f"; {len(doubles)} ids occur more than once" if len(doubles) > 1 else ""
        raise column.fault(
            second, f"{column.row_named(first)} has the id {one}, too; an item has one row: drop one{more}"
        )
    return read


def read_user_ids(column: TableColumn) -> Int64s:
    """[n] int64 keys of users: integers where every cell is a whole number, else hashes of strings.

    In CSV, 17.0 is the integer 17 where all cells of all files are whole numbers; otherwise every cell is a string.
    Raises InvalidData at the first row without an id and at the first integer that may have been rounded as a float.
    In a column of numbers alone it also raises at the first float with an exponent.
    """
    if not column.from_text:
        return read_item_ids(column).keys
    cells = column.strings()
    if _all_match(cells, _CANONICAL):
        try:
            return column.ids()
        except InvalidData as fault:
            # Digits beyond int64 are names. A float beyond 2^53 may have been rounded, which is an error.
            if isinstance(fault.__cause__, Altered):
                raise
    elif _all_match(cells, f"{_CANONICAL}|{_FLOAT}"):
        bad = int(np.argmax(pc.match_substring_regex(cells, _FLOAT).to_numpy()))
        raise column.fault(
            bad,
            f"expected an integer id, got {cells[bad].as_py()!r}, {_NOT_BACK[_EXPONENT]}; write all as plain digits",
        )
    return _strings(column).keys


def _holds_strings(column: TableColumn) -> bool:
    if not column.from_text:
        return is_string(column.values.type)
    first = column.values.drop_null().slice(0, 1)
    if not len(first):
        return False
    return not _all_match(first, _WHOLE) or any(_all_match(first, form) for form in _NOT_BACK)


def _all_match(cells: pa.ChunkedArray, form: str) -> bool:
    """Whether each cell has the form. The first cell is tried alone, which ends the search early for names."""
    return all(
        pc.all(pc.match_substring_regex(part, form).fill_null(False), min_count=0).as_py()
        for part in (cells.slice(0, 1), cells)
    )


def _integers(column: TableColumn) -> Int64s:
    if column.from_text or _holds_strings(column):
        for form, reason in _NOT_BACK.items():
            if form is _EXPONENT and not may_hold(column.values, "e"):
                continue
            found = pc.match_substring_regex(column.strings(), form).fill_null(False)
            if pc.any(found, min_count=0).as_py():
                bad = int(np.argmax(found.to_numpy()))
                raise column.fault(
                    bad,
                    f"expected an integer id, got {column.values[bad].as_py()!r}, {reason};"
                    ' where ids are strings, set ids = "strings" in [items], else write integers as plain digits',
                )
    if is_string(column.values.type) and not column.from_text:
        raise column.misfit("integer ids", 'convert the column, or set ids = "strings" in [items]')
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
    # Each distinct string is hashed once, for interactions repeat ids.
    encoded = whole.dictionary_encode()
    keys = keys_of_strings(encoded.dictionary.to_pylist())
    return TableIds(keys[np.asarray(encoded.indices.to_numpy(), np.int64)], names)


def _as_strings(column: TableColumn) -> pa.ChunkedArray:
    """The column as large strings; whole numbers as their decimal digits."""
    if column.from_text or _holds_strings(column):
        return column.strings()
    return column.integers().cast(pa.large_string())


def _packed(values: pa.LargeStringArray) -> PackedStrings:
    """The strings without a copy. values: without nulls."""
    _, offsets, data = values.buffers()
    places = np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1]
    bytes_of_all = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return PackedStrings(places, bytes_of_all)
