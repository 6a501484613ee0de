"""A column of Parquet or CSV files with typed access; errors name file, column and row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshfold.model.data.column_types import is_any_list, is_string, named, plain, shown
from meshfold.model.data.exact_numbers import (
    EXACT_BELOW,
    BadValue,
    float64s,
    int64s,
    int64s_of_text,
    whole_limit,
)
from meshfold.model.errors import InvalidData
from meshfold.model.types import Int64s

__all__ = ["TableColumn", "is_string"]


@dataclass(frozen=True, eq=False)
class TableColumn:
    """A column over all rows of all files, of a plain type (column_types.py).

    from_text: whether it comes from CSV or from folder names, where all cells are strings. rows: [V] int64 - the row
    of each of V values, for values taken out of lists; None where each row has one value. exact_below: absolute value
    below which whole floats are exact. It is smaller than the type's own limit where a file has narrower floats.
    """

    name: str
    values: pa.ChunkedArray
    rows_of_files: tuple[tuple[Path, int], ...]
    from_text: bool
    rows: Int64s | None = None
    exact_below: int = EXACT_BELOW

    def __post_init__(self) -> None:
        start, chunks = 0, []
        for chunk in self.values.chunks or [pa.array([], self.values.type)]:
            try:
                chunks.append(plain(chunk))
            except BadValue as fault:
                raise self.fault(start + fault.place, str(fault)) from fault
            start += len(chunk)
        object.__setattr__(self, "values", pa.chunked_array(chunks))

    def __len__(self) -> int:
        return sum(rows for _, rows in self.rows_of_files)

    @property
    def is_list(self) -> bool:
        return is_any_list(self.values.type)

    @property
    def is_empty(self) -> bool:
        """Whether no row has a value; such a column fits every type."""
        return bool(pa.types.is_null(self.values.type))

    def fault(self, place: int, message: str) -> InvalidData:
        """The error that names the row of the value at the place."""
        path, row = self._row(place)
        return InvalidData(f"{path}: column {self.name}, row {row}: {message}")

    def row_named(self, place: int) -> str:
        """The row of the value at the place, as text; names the file where there are several."""
        path, row = self._row(place)
        return f"row {row}" + (f" of {path}" if len(self.rows_of_files) > 1 else "")

    def misfit(self, expected: str, remedy: str) -> InvalidData:
        """The error for a column of another type."""
        path, first = self.rows_of_files[0][0], ""
        if self.values.null_count < len(self.values):
            place = _first(self.values.is_valid())
            path, row = self._row(place)
            first = f" (row {row}: {shown(self.values[place])})"
        kind = named(self.values.type)
        return InvalidData(f"{path}: column {self.name} must hold {expected}, got {kind}; {remedy}{first}")

    def each(self, separator: str | None) -> TableColumn:
        """A column of single values, with `rows` set: elements of lists, or parts of strings.

        separator: splits strings; None takes elements of lists. Nulls and empty parts are dropped.
        """
        if separator is not None:
            return replace(self, values=pc.split_pattern(self.strings(), separator), from_text=True).each(
                None
            )
        values = self.values
        if not self.is_list:
            valid = values.is_valid()
            return replace(self, values=values.filter(valid), rows=np.flatnonzero(valid.to_numpy()))
        rows, lists, start = [np.empty(0, np.int64)], [], 0
        for chunk in values.chunks:
            elements = pc.list_flatten(chunk)
            parents = pc.list_parent_indices(chunk)
            if elements.null_count:
                parents, elements = parents.filter(elements.is_valid()), elements.drop_null()
            rows.append(parents.to_numpy().astype(np.int64) + start)
            lists.append(elements)
            start += len(chunk)
        flat = pa.chunked_array(lists, values.type.value_type)
        return replace(self, values=flat, rows=np.concatenate(rows))

    def strings(self) -> pa.ChunkedArray:
        """The values as large strings, null for empty ones; dates as 2024-12-31; nulls stay."""
        kind = self.values.type
        if is_string(kind):
            return self.values
        if not (pa.types.is_boolean(kind) or pa.types.is_date(kind) or pa.types.is_null(kind)):
            raise self.misfit("strings", "convert the column or choose another kind")
        days = self.values.cast(pa.date32()) if pa.types.is_date(kind) else self.values
        return days.cast(pa.large_string())

    def integers(self) -> pa.ChunkedArray:
        """The values as int64; nulls stay."""
        self._require_numbers()
        try:
            if is_string(self.values.type):
                return int64s_of_text(self.values)
            return int64s(self.values, min(self.exact_below, whole_limit(self.values.type) or EXACT_BELOW))
        except BadValue as fault:
            raise self.fault(fault.place, str(fault)) from fault

    def floats(self) -> pa.ChunkedArray:
        """The values as float64; nulls stay. Raises InvalidData for a whole number that float64 would round."""
        self._require_numbers()
        try:
            return float64s(self.values)
        except BadValue as fault:
            raise self.fault(fault.place, str(fault)) from fault

    def ids(self) -> Int64s:
        """The column as [n] int64. Raises InvalidData at the first row without an id."""
        if self.values.null_count:
            raise self.fault(_first(self.values.is_null()), "the id is missing; every row needs an int64 id")
        return np.asarray(self.integers().to_numpy(), np.int64)

    def _row(self, place: int) -> tuple[Path, int]:
        """The file and the row, from 1, of the value at the place."""
        row = place if self.rows is None else int(self.rows[place])
        for path, rows in self.rows_of_files:
            if row < rows:
                return path, row + 1
            row -= rows
        raise AssertionError("a row beyond the last")

    def _require_numbers(self) -> None:
        """Raises InvalidData where the values are neither numbers nor cells of text."""
        kind = self.values.type
        fits = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        fits = fits or pa.types.is_decimal(kind) or pa.types.is_null(kind)
        if not (fits or (self.from_text and is_string(kind))):
            raise self.misfit("numbers", "convert the column or choose another kind")


def _first(mask: pa.ChunkedArray) -> int:
    """The first place where the mask is true. mask: true somewhere."""
    return int(np.argmax(mask.to_numpy()))
