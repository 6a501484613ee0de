"""Selection of a table's rows by a filter (a task's `where`), with pyarrow. Filters of requests run elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from meshfold.model.data.table_column import TableColumn, is_string
from meshfold.model.errors import InvalidData
from meshfold.model.filter.expression import All, Any, AtLeast, Exists, Expression, Match, Not, Range

Bools = npt.NDArray[np.bool_]
_INT64 = np.iinfo(np.int64)


def names_in(expression: Expression) -> Iterator[str]:
    """Yields the field of every test in the expression, in order."""
    match expression:
        case Match(field=name) | Range(field=name) | Exists(field=name):
            yield name
        case Not(filter=inner):
            yield from names_in(inner)
        case All(filters=parts) | Any(filters=parts) | AtLeast(filters=parts):
            for part in parts:
                yield from names_in(part)


def select_rows(expression: Expression, columns: Mapping[str, TableColumn], rows: int) -> Bools:
    """[rows] bool - whether each row satisfies the expression. A null satisfies no Match and no Range.

    columns: by name, all fields of the expression. Raises InvalidData where a test does not fit its column's type.
    """
    match expression:
        case Match():
            return _match(expression, columns[expression.field])
        case Range():
            return _range(expression, columns[expression.field])
        case Exists(field=name):
            return _mask(columns[name].values.is_valid())
        case Not(filter=inner):
            inside: Bools = ~select_rows(inner, columns, rows)
            return inside
        case All(filters=parts):
            return _at_least(len(parts), parts, columns, rows)
        case Any(filters=parts):
            return _at_least(1, parts, columns, rows)
        case AtLeast(count=count, filters=parts):
            return _at_least(count, parts, columns, rows)


def _at_least(
    count: int, parts: tuple[Expression, ...], columns: Mapping[str, TableColumn], rows: int
) -> Bools:
    hold = np.zeros(rows, np.int64)
    for part in parts:
        hold += select_rows(part, columns, rows)
    enough: Bools = hold >= count
    return enough


def _match(test: Match, column: TableColumn) -> Bools:
    _refuse_lists(column)
    found = np.zeros(len(column), bool)
    if test.strings:
        known = pa.array(test.strings, pa.large_string())
        found |= _mask(pc.is_in(column.strings(), value_set=known))
    if test.ints:
        if is_string(column.values.type) and not column.from_text:
            raise column.misfit("numbers", "compare it with a quoted string")
        found |= _equal(column, test.ints)
    return found


def _equal(column: TableColumn, ints: tuple[int, ...]) -> Bools:
    """Whether each value is one of the ints, exact for numbers of every type and size."""
    whole = _whole(column)
    if whole is not None:
        return _mask(pc.is_in(whole, value_set=pa.array(ints, pa.int64())))
    values = np.asarray(column.floats().fill_null(np.nan).to_numpy(), np.float64)
    # An integer beyond float64's exact range equals no float.
    return np.isin(values, np.array([i for i in ints if int(float(i)) == i], np.float64))


def _range(test: Range, column: TableColumn) -> Bools:
    """Whether each value lies in the range, exact for numbers of every type and size."""
    _refuse_lists(column)
    whole = _whole(column)
    if whole is not None:
        inside = _mask(pc.is_valid(whole))
        values = np.asarray(whole.fill_null(0).to_numpy(), np.int64)
        low, high = _int64_bounds(test)
        return inside & (values >= low) & (values <= high) if low <= high else np.zeros(len(values), bool)
    floats = np.asarray(column.floats().fill_null(np.nan).to_numpy(), np.float64)
    inside = ~np.isnan(floats)
    if test.minimum is not None:
        inside &= floats >= test.minimum if test.inclusive else floats > test.minimum
    if test.maximum is not None:
        inside &= floats <= test.maximum if test.inclusive else floats < test.maximum
    return inside


def _whole(column: TableColumn) -> pa.ChunkedArray | None:
    """The column as int64 where its type is no float and all values are whole; else None."""
    if pa.types.is_floating(column.values.type):
        return None
    try:
        return column.integers()
    except InvalidData:
        return None


def _int64_bounds(test: Range) -> tuple[int, int]:
    """(smallest, largest) int64 in the range; smallest > largest where it has none."""
    low, high = _INT64.min, _INT64.max
    if test.minimum is not None and test.minimum > low:
        if test.minimum > high:
            return 1, 0
        low = math.ceil(test.minimum) if test.inclusive else math.floor(test.minimum) + 1
    if test.maximum is not None and test.maximum < high:
        if test.maximum < _INT64.min:
            return 1, 0
        high = math.floor(test.maximum) if test.inclusive else math.ceil(test.maximum) - 1
    return low, high


def _mask(found: pa.ChunkedArray) -> Bools:
    return np.asarray(found.fill_null(False).to_numpy(), bool)


def _refuse_lists(column: TableColumn) -> None:
    if column.is_list:
        raise column.misfit(
            "single values for a task's where", "compare another column, or write one value a row"
        )
