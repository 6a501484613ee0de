"""A catalog from a table in memory. The kind of a field follows from its column's type:

strings                    category; text where more than half of the values differ and some have a space
lists of strings           categories
integers, lists of them    integer, integers
floats, decimals           number
bool                       category of "true" and "false"
other types                an error; leave the column out with fields={"name": ""}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshfold.api.vectors import matrix_of
from meshfold.model.data.catalog import Catalog, no_vectors
from meshfold.model.data.column_types import is_string
from meshfold.model.data.encoding import encode_column, encode_text
from meshfold.model.data.ids import read_unique_ids
from meshfold.model.data.table_column import TableColumn
from meshfold.model.data.tables import popularity_of
from meshfold.model.errors import InvalidData
from meshfold.model.schema import Field, FieldKind, Schema, nearest

_NAME = Path("items")
# Share of distinct strings above which a column with spaces is text, which is shown and not filtered.
_DISTINCT_TEXTS = 0.5
_LABELS = re.compile(r"__index_level_\d+__\Z")


def catalog_of(
    items: Any,
    vectors: Any,
    *,
    surface: str,
    id: str,
    fields: Mapping[str, str],
    popularity: str | None,
    tasks: Sequence[str],
    exclude_history: bool,
) -> Catalog:
    """The catalog of a table with vectors. For the arguments see publishing.build. Raises InvalidData."""
    if isinstance(tasks, str):
        raise InvalidData(f"tasks is {tasks!r}; expected a list of names: [{tasks!r}]")
    if not isinstance(exclude_history, bool):
        raise InvalidData(f"exclude_history is {exclude_history!r}; expected True or False")
    table = _table(items)
    for name in (id, *([popularity] if popularity else []), *fields):
        if name not in table.column_names:
            raise InvalidData(f"items: there is no column {name!r}{nearest(name, table.column_names)}")
    columns = {name: _column(name, table[name]) for name in table.column_names}
    left_out = {id, popularity, *(name for name, kind in fields.items() if not kind)}
    if isinstance(vectors, str):
        if vectors not in columns:
            raise InvalidData(f"items: there is no column {vectors!r}{nearest(vectors, columns)}")
        left_out.add(vectors)
        vectors = columns[vectors].values.to_pylist()
    matrix = matrix_of("vectors", vectors, InvalidData)
    kinds = {
        name: _declared(name, fields[name]) if name in fields else _inferred(column)
        for name, column in columns.items()
        if name not in left_out
    }
    ids = read_unique_ids(columns[id])
    catalog = Catalog(
        schema=Schema(
            surface,
            tuple(Field(name, kind) for name, kind in kinds.items()),
            tuple(tasks),
            exclude_history=exclude_history,
            ids=ids.kind,
        ),
        item_ids=ids.keys,
        columns={
            name: encode_column(kind, columns[name])
            for name, kind in kinds.items()
            if kind is not FieldKind.TEXT
        },
        texts={name: encode_text(columns[name]) for name, kind in kinds.items() if kind is FieldKind.TEXT},
        popularity=popularity_of(columns[popularity]) if popularity else np.zeros(len(table), np.float32),
        vectors=no_vectors,
        dimension=0,
        names=ids.names,
    )
    return catalog.with_array(matrix)


def _table(items: Any) -> pa.Table:
    try:
        table = _converted(items)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as fault:
        raise InvalidData(f"items: cannot be read as a table: {' '.join(str(fault).split())}") from fault
    # Unnamed row labels of pandas arrive as columns; they are dropped.
    table = table.select([i for i, name in enumerate(table.column_names) if not _LABELS.match(name)])
    doubles = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if doubles:
        raise InvalidData(f"items: two columns are named {doubles[0]!r}; rename one")
    return table


def _converted(items: Any) -> pa.Table:
    if isinstance(items, pa.Table):
        return items
    if isinstance(items, Mapping):
        return pa.table({str(name): _listed(name, values) for name, values in items.items()})
    if isinstance(items, Sequence) and not isinstance(items, str | bytes):
        rows = [dict(row) for row in items]
        names = dict.fromkeys(name for row in rows for name in row)
        return pa.table({str(name): [row.get(name) for row in rows] for name in names})
    if hasattr(items, "__arrow_c_stream__"):  # pandas, Polars, DuckDB
        return pa.table(items)
    raise InvalidData(
        f"items: expected a pyarrow table, a data frame, a mapping of columns or a list of mappings, got"
        f" {type(items).__name__}; for files use `meshfold build`"
    )


def _listed(name: object, values: Any) -> Any:
    """The values of a column; a matrix becomes a list of rows, which pyarrow reads."""
    if isinstance(values, str | bytes):
        raise InvalidData(f"items: column {name} is the text {values!r:.40}; expected a list of values")
    return list(values) if isinstance(values, np.ndarray) and values.ndim == 2 else values


def _column(name: str, values: pa.ChunkedArray) -> TableColumn:
    try:
        return TableColumn(name, values, ((_NAME, len(values)),), from_text=False)
    except (pa.ArrowException, TypeError) as fault:
        raise InvalidData(f"items: column {name} cannot be read: {fault}") from fault


def _declared(name: str, kind: str) -> FieldKind:
    if kind not in list(FieldKind):
        raise InvalidData(
            f"fields[{name!r}] is {kind!r}; expected one of {', '.join(FieldKind)}, or '' to leave it out"
        )
    return FieldKind(kind)


def _inferred(column: TableColumn) -> FieldKind:
    many = column.is_list
    kind = column.values.type.value_type if many else column.values.type
    if is_string(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        if not many and is_string(kind) and _is_text(column.values):
            return FieldKind.TEXT
        return FieldKind.CATEGORIES if many else FieldKind.CATEGORY
    if pa.types.is_integer(kind):
        return FieldKind.INTEGERS if many else FieldKind.INTEGER
    if not many and (pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return FieldKind.NUMBER
    raise column.misfit(
        "strings, integers or numbers", f'convert it, or leave it out with fields={{"{column.name}": ""}}'
    )


def _is_text(values: pa.ChunkedArray) -> bool:
    spaces = pc.any(pc.match_substring(values, " "), min_count=0).as_py()
    return bool(spaces) and pc.count_distinct(values).as_py() > _DISTINCT_TEXTS * len(values)
