"""Which rows of a table satisfy a filter, by pyarrow; the catalog's own filters run elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from meshfold.model.data.table_column import TableColumn, is_string
from meshfold.model.errors import InvalidData
from meshfold.model.filter.expression import All, Any, AtLeast, Exists, Expression, Match, Not, Range

Bools = npt.NDArray[np.bool_]


def names_in(expression: Expression) -> Iterator[str]:
    """The field of every test in the expression, in order."""
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

    columns: every name in the expression. Raises InvalidData where a column cannot hold what it is asked.
    """
    match expression:
        case Match():
            return _match(expression, columns[expression.field])
        case Range():
            return _range(expression, columns[expression.field])
        case Exists(field=name):
            return np.asarray(columns[name].values.is_valid().to_numpy(), bool)
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
        if _holds_strings(column) and not column.from_text:
            raise column.misfit("numbers", "compare it with a quoted string")
        found |= _equal(column, test.ints)
    return found


def _equal(column: TableColumn, ints: tuple[int, ...]) -> Bools:
    """Exact for columns of whole numbers, whatever their size; CSV cells may be of either kind."""
    if not pa.types.is_floating(column.values.type) and not pa.types.is_decimal(column.values.type):
        try:
            return _mask(pc.is_in(column.integers(), value_set=pa.array(ints, pa.int64())))
        except InvalidData:
            if not column.from_text:
                raise
    values = np.asarray(column.floats().fill_null(np.nan).to_numpy(), np.float64)
    return np.isin(values, np.array(ints, np.float64))


def _range(test: Range, column: TableColumn) -> Bools:
    _refuse_lists(column)
    values = np.asarray(column.floats().fill_null(np.nan).to_numpy(), np.float64)
    inside = ~np.isnan(values)
    if test.minimum is not None:
        inside &= values >= test.minimum if test.inclusive else values > test.minimum
    if test.maximum is not None:
        inside &= values <= test.maximum if test.inclusive else values < test.maximum
    return inside


def _mask(found: pa.ChunkedArray) -> Bools:
    return np.asarray(found.fill_null(False).to_numpy(), bool)


def _holds_strings(column: TableColumn) -> bool:
    held = column.values.type
    return is_string(held.value_type if pa.types.is_dictionary(held) else held)


def _refuse_lists(column: TableColumn) -> None:
    if column.is_list:
        raise InvalidData(f"column {column.name} holds lists; a task's where compares single values only")
