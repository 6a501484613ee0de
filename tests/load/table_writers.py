"""Random tables written as people write them: pyarrow, pandas, Polars, DuckDB and Python's csv."""

from __future__ import annotations

import bz2
import csv
import gzip
import importlib.util
import io
import lzma
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from tests.load.random_tables import EXACT_BELOW, Table, array, held_as

Write = Callable[[random.Random, Table, Path], None]


def _columns(rng: random.Random, table: Table) -> list[str]:
    """In any order, for parts differ in it."""
    return rng.sample(list(table.fields), len(table.fields))


def _arrow(rng: random.Random, table: Table, any_type: bool) -> pa.Table:
    """any_type: whether any type that holds the values will do, else the plain one of each."""
    columns = {}
    for name in _columns(rng, table):
        kind, values = held_as(table.fields[name])
        columns[name] = array(rng, kind, values) if any_type else pa.array(values, PLAIN[kind])
    return pa.table(columns)


PLAIN = {
    "string": pa.string(),
    "integer": pa.int64(),
    "float": pa.float64(),
    "strings": pa.list_(pa.string()),
    "integers": pa.list_(pa.int64()),
    "floats": pa.list_(pa.float32()),
}


QUOTING: tuple[Literal[0, 1, 2, 3], ...] = (csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC)


def _returns(table: Table) -> bool:
    """Whether a cell holds a carriage return. Python's csv, pandas and Polars may leave it without quotes, also
    at the end of a line, where no reader can tell it from the line's end."""
    return any("\r" in str(values) for _, values in map(held_as, table.fields.values()) for values in values)


def pyarrow_parquet(rng: random.Random, table: Table, path: Path) -> None:
    made = _arrow(rng, table, any_type=True)
    pq.write_table(
        made,
        path,
        row_group_size=rng.choice((1, 5, 1000)),
        use_dictionary=rng.random() < 0.5,
        store_schema=rng.random() < 0.8,
        compression=rng.choice(("none", "snappy", "zstd")),
        data_page_version=rng.choice(("1.0", "2.0")),
    )


def pyarrow_csv(rng: random.Random, table: Table, path: Path) -> None:
    style = rng.choice(("needed", "all_valid"))
    pa.csv.write_csv(_arrow(rng, table, any_type=False), path, pa.csv.WriteOptions(quoting_style=style))


def pandas_parquet(rng: random.Random, table: Table, path: Path) -> None:
    # All parts alike, for an index is a column.
    _pandas(rng, table).to_parquet(path, index=len(table.fields) == 2)


def pandas_csv(rng: random.Random, table: Table, path: Path) -> None:
    _pandas(rng, table).to_csv(
        path,
        index=False,
        lineterminator=rng.choice(("\n", "\r\n")),
        quoting=csv.QUOTE_ALL if _returns(table) else rng.choice(QUOTING),
        # Not UTF-16, for which it warns that bz2 gets no byte order mark.
        encoding=rng.choice(("utf-8", "utf-8-sig")),
        compression=rng.choice((None, "gzip", "bz2", "xz")),
    )


def _pandas(rng: random.Random, table: Table) -> Any:
    """Integers with gaps as pandas makes them by itself, doubles, or as its own integers; strings as categories."""
    import pandas as pd

    made = {}
    for name in _columns(rng, table):
        kind, values = held_as(table.fields[name])
        series = pd.Series(values, dtype="object")
        if kind == "integer":
            series = series.astype(rng.choice(("Int64", "float64")))
        elif kind == "float":
            series = pd.Series(values, dtype="float64")
        elif kind == "string" and rng.random() < 0.6:
            series = series.astype(rng.choice(("category", "string")))
        made[name] = series
    return pd.DataFrame(made)


def polars_parquet(rng: random.Random, table: Table, path: Path) -> None:
    import polars as pl

    frame = _polars(rng, table)
    # pyarrow cannot write dictionaries of the strings that Polars gives it.
    if rng.random() < 0.5 or any(
        pl.Categorical in (kind, getattr(kind, "inner", None)) for kind in frame.dtypes
    ):
        frame.write_parquet(path)
    else:
        pq.write_table(frame.to_arrow(compat_level=pl.CompatLevel.newest()), path)


def polars_csv(rng: random.Random, table: Table, path: Path) -> None:
    frame = _polars(rng, table)
    frame.write_csv(
        path,
        check_extension=False,
        include_bom=rng.random() < 0.3,
        line_terminator=rng.choice(("\n", "\r\n")),
        quote_style="always" if _returns(table) else rng.choice(("necessary", "always", "non_numeric")),
    )


def _polars(rng: random.Random, table: Table) -> Any:
    import polars as pl

    kinds: dict[str, tuple[Any, ...]] = {
        "string": (pl.String, pl.Categorical),
        "integer": (pl.Int64,),
        "float": (pl.Float64,),
        "strings": (pl.List(pl.String), pl.List(pl.Categorical)),
        "integers": (pl.List(pl.Int64),),
        "floats": (pl.List(pl.Float32), pl.List(pl.Float64)),
    }
    made = []
    for name in _columns(rng, table):
        kind, values = held_as(table.fields[name])
        made.append(pl.Series(name, values, rng.choice(kinds[kind])))
    return pl.DataFrame(made)


def duckdb_parquet(rng: random.Random, table: Table, path: Path) -> None:
    _duckdb(rng, table, path, f"FORMAT parquet, ROW_GROUP_SIZE {rng.choice((2048, 122_880))}")


def duckdb_csv(rng: random.Random, table: Table, path: Path) -> None:
    force = ", FORCE_QUOTE *" if rng.random() < 0.5 else ""
    _duckdb(rng, table, path, f"FORMAT csv, HEADER{force}")


def _duckdb(rng: random.Random, table: Table, path: Path, options: str) -> None:
    import duckdb

    with duckdb.connect() as base:
        base.register("made", _arrow(rng, table, any_type=False))
        base.execute(f"COPY made TO '{path}' ({options})")


def python_csv(rng: random.Random, table: Table, path: Path) -> None:
    """With the dialects of RFC 4180, or with a backslash before quotes, which must not be misread."""
    names = _columns(rng, table)
    columns = [_texts(rng, *held_as(table.fields[name])) for name in names]
    rows = [names, *([column[row] for column in columns] for row in range(table.rows))]
    quoting = csv.QUOTE_ALL if _returns(table) else rng.choice(QUOTING)
    backslashed = rng.random() < 0.15 and not any("\\" in cell for row in rows for cell in row)
    text = io.StringIO(newline="")
    writer = csv.writer(
        text,
        lineterminator=rng.choice(("\n", "\r\n", "\r")),
        quoting=quoting,
        doublequote=not backslashed,
        escapechar="\\" if backslashed else None,
    )
    writer.writerows(rows)
    data = text.getvalue().encode(rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32")))
    pack: Callable[[bytes], bytes] = rng.choice((bytes, bytes, gzip.compress, bz2.compress, lzma.compress))
    path.write_bytes(pack(data))


def _texts(rng: random.Random, kind: str, values: list[Any]) -> list[str]:
    """Cells; whole numbers at times as a float column prints them."""
    whole = [value for value in values if value is not None]
    pointed = kind == "integer" and rng.random() < 0.3 and all(abs(value) < EXACT_BELOW for value in whole)
    form = (
        rng.choice(("{:.1f}", "{:.1f}", "{:.1f}", "{:.18e}"))
        if pointed
        else "{!r}"
        if kind == "float"
        else "{}"
    )
    return ["" if value is None else form.format(float(value) if pointed else value) for value in values]


PARQUET: dict[str, Write] = {
    "pyarrow": pyarrow_parquet,
    "pandas": pandas_parquet,
    "polars": polars_parquet,
    "duckdb": duckdb_parquet,
}
CSV: dict[str, Write] = {
    "pyarrow": pyarrow_csv,
    "pandas": pandas_csv,
    "polars": polars_csv,
    "duckdb": duckdb_csv,
    "csv": python_csv,
}
INSTALLED = tuple(name for name in CSV if name == "csv" or importlib.util.find_spec(name))
MISSING = tuple(name for name in CSV if name not in INSTALLED)
