"""A column of Parquet or CSV files as numpy values, where every complaint names file, column and row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshfold.model.errors import InvalidData
from meshfold.model.types import Float64s, Int64s


@dataclass(frozen=True, eq=False)
class TableColumn:
    """A column over all rows of all files.

    from_text: whether it comes from CSV, where all cells are strings. rows: [V] int64 - the row of each of
    V values that come out of lists; None where value and row are the same.
    """

    name: str
    values: pa.ChunkedArray
    rows_of_files: tuple[tuple[Path, int], ...]
    from_text: bool
    rows: Int64s | None = None

    def __len__(self) -> int:
        return sum(rows for _, rows in self.rows_of_files)

    @property
    def is_list(self) -> bool:
        return _is_list(self.values.type)

    def fault(self, place: int, message: str) -> InvalidData:
        """The error that names the row of the value at the place."""
        row = place if self.rows is None else int(self.rows[place])
        for path, rows in self.rows_of_files:
            if row < rows:
                return InvalidData(f"{path}: column {self.name}, row {row + 1}: {message}")
            row -= rows
        raise AssertionError("a row beyond the last")

    def misfit(self, expected: str, remedy: str) -> InvalidData:
        """The error for a column of another type."""
        path = self.rows_of_files[0][0]
        return InvalidData(
            f"{path}: column {self.name} must hold {expected}, got {self.values.type}; {remedy}"
        )

    def each(self, separator: str | None) -> TableColumn:
        """The values of every row one by one, without the missing: of lists, or of strings that are cut at
        the separator, where empty parts are missing."""
        values = self.values
        if separator is not None:
            cut = replace(self, values=pc.split_pattern(self.strings(), separator))
            parts = cut.each(None)
            full = pc.not_equal(parts.values, "").to_numpy()
            assert parts.rows is not None
            return replace(parts, values=parts.values.filter(pa.array(full)), rows=parts.rows[full])
        if not self.is_list:
            valid = values.is_valid()
            return replace(self, values=values.filter(valid), rows=np.flatnonzero(valid.to_numpy()))
        rows, lists, start = [np.empty(0, np.int64)], [], 0
        for chunk in values.chunks:
            held = pc.list_flatten(chunk)
            parents = pc.list_parent_indices(chunk)
            if held.null_count:
                parents, held = parents.filter(held.is_valid()), held.drop_null()
            rows.append(parents.to_numpy().astype(np.int64) + start)
            lists.append(held)
            start += len(chunk)
        flat = pa.chunked_array(lists, values.type.value_type)
        return replace(self, values=flat, rows=np.concatenate(rows))

    def strings(self) -> pa.ChunkedArray:
        """The values as strings; nulls stay."""
        held = self.values.type
        held = held.value_type if pa.types.is_dictionary(held) else held
        if not (is_string(held) or pa.types.is_boolean(held) or pa.types.is_null(held)):
            raise self.misfit("strings", "convert the column or choose another kind")
        return self.values.cast(pa.large_string())

    def integers(self) -> pa.ChunkedArray:
        """The values as int64; nulls stay."""
        return self._numbers(pa.int64(), "an int64 number")

    def floats(self) -> pa.ChunkedArray:
        """The values as float64; nulls stay."""
        return self._numbers(pa.float64(), "a number")

    def ids(self) -> Int64s:
        """The column as [n] int64. Raises InvalidData at the first row without an id."""
        if self.values.null_count:
            raise self.fault(_first(self.values.is_null()), "the id is missing; every row needs an int64 id")
        return np.asarray(self.integers().to_numpy(), np.int64)

    def times(self) -> Int64s | Float64s:
        """The column as [n] int64 or float64 seconds, from numbers of seconds, timestamps or ISO 8601."""
        if self.values.null_count:
            raise self.fault(
                _first(self.values.is_null()), "the time is missing; every interaction needs one"
            )
        values = self._text_times() if self.from_text else self.values
        if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
            zone = getattr(values.type, "tz", None)
            micros = values.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64()).to_numpy()
            whole: Int64s = np.asarray(micros, np.int64)
            return whole / 1e6 if (whole % 1_000_000).any() else whole // 1_000_000
        column = replace(self, values=values)
        if pa.types.is_integer(values.type):
            return np.asarray(column.integers().to_numpy(), np.int64)
        seconds = np.asarray(column.floats().to_numpy(), np.float64)
        if not np.isfinite(seconds).all():
            raise self.fault(int(np.argmin(np.isfinite(seconds))), "the time must be finite")
        return seconds

    def _text_times(self) -> pa.ChunkedArray:
        for kind in (pa.int64(), pa.float64(), pa.timestamp("us"), pa.timestamp("us", "UTC")):
            if _castable(self.values, kind):
                return self.values.cast(kind)
        numeric = _castable(self.values.slice(0, 1), pa.float64())
        return self._cast(pa.float64() if numeric else pa.timestamp("us"), "seconds or an ISO 8601 time")

    def _numbers(self, kind: pa.DataType, expected: str) -> pa.ChunkedArray:
        held = self.values.type
        fits = pa.types.is_integer(held) or pa.types.is_floating(held) or pa.types.is_boolean(held)
        fits = fits or pa.types.is_decimal(held) or pa.types.is_null(held)
        if not (fits or (self.from_text and is_string(held))):
            raise self.misfit("numbers", "convert the column or choose another kind")
        return self._cast(kind, expected)

    def _cast(self, kind: pa.DataType, expected: str) -> pa.ChunkedArray:
        try:
            return self.values.cast(kind)
        except pa.ArrowInvalid:
            bad = _first_bad(len(self.values), lambda start, n: _castable(self.values.slice(start, n), kind))
        raise self.fault(bad, f"expected {expected}, got {self.values[bad].as_py()!r}; mend the row")


def is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _first(mask: pa.ChunkedArray) -> int:
    """Where the mask is first true; it is true somewhere."""
    return int(np.argmax(mask.to_numpy()))


def _first_bad(rows: int, good: Callable[[int, int], bool]) -> int:
    """The first row that is not good, where good(start, n) tells whether the n rows from start all are."""
    start, end = 0, rows
    while end - start > 1:
        middle = (start + end) // 2
        start, end = (middle, end) if good(start, middle - start) else (start, middle)
    return start


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _castable(values: pa.ChunkedArray, kind: pa.DataType) -> bool:
    try:
        values.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True
