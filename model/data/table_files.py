"""Parquet and CSV files as one table, read column by column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from meshfold.model.data.table_column import TableColumn
from meshfold.model.errors import InvalidData
from meshfold.model.schema import nearest

SUFFIXES = (".parquet", ".csv")
# Without these a row group, often half a gigabyte of vectors, is read into memory before its first row.
_BY_PAGES: dict[str, Any] = {"buffer_size": 1 << 20, "pre_buffer": False}


@dataclass(frozen=True)
class TableFiles:
    """One file, or all files of a folder in the order of their names, as one table."""

    path: Path
    files: tuple[Path, ...]
    columns: tuple[str, ...]
    is_csv: bool

    @classmethod
    def open(cls, path: Path) -> TableFiles:
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES and p.name[0] not in "._")
        else:
            files = [path]
        if not files or not all(p.is_file() for p in files):
            raise InvalidData(
                f"{path}: expected a .parquet or .csv file or a folder of them; nothing is there"
            )
        suffixes = {p.suffix for p in files}
        if not suffixes <= set(SUFFIXES):
            raise InvalidData(f"{path}: expected a .parquet or .csv file, got {path.suffix or 'no suffix'}")
        if len(suffixes) > 1:
            raise InvalidData(f"{path}: the folder mixes Parquet and CSV; keep one of them")
        is_csv = suffixes == {".csv"}
        columns: tuple[str, ...] = ()
        for place, file in enumerate(files):
            names = tuple(_csv_columns(file) if is_csv else _parquet_schema(file).names)
            if len(set(names)) < len(names):
                raise InvalidData(f"{file}: two columns have one name; rename one of {sorted(names)}")
            if place and set(names) != set(columns):
                raise InvalidData(f"{file}: its columns differ from those of {files[0]}; make them equal")
            columns = columns or names
        return cls(path, tuple(files), columns, is_csv)

    def check(self, column: str) -> None:
        """Raises InvalidData where the files lack the column."""
        if column not in self.columns:
            raise InvalidData(f"{self.path}: there is no column {column!r}{nearest(column, self.columns)}")

    def read(self, names: Sequence[str]) -> dict[str, TableColumn]:
        """The named columns, whole."""
        wanted = sorted(set(names))
        for name in wanted:
            self.check(name)
        tables = [_read_csv(f, wanted) if self.is_csv else _read_parquet(f, wanted) for f in self.files]
        with _faults(self.path):
            table = pa.concat_tables(tables, promote_options="permissive")
        rows = tuple((file, len(t)) for file, t in zip(self.files, tables, strict=True))
        return {name: TableColumn(name, table[name], rows, self.is_csv) for name in wanted}

    def stream(self, column: str, rows: int) -> Iterator[tuple[Path, pa.Array]]:
        """The column of Parquet files, at most `rows` rows at a time."""
        for file in self.files:
            with _faults(file), pq.ParquetFile(file, **_BY_PAGES) as parquet:
                for batch in parquet.iter_batches(batch_size=rows, columns=[column], use_threads=False):
                    yield file, batch.column(0)

    def type_of(self, column: str) -> pa.DataType:
        """The type of a column of Parquet files."""
        self.check(column)
        return _parquet_schema(self.files[0]).field(column).type


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as fault:
        raise InvalidData(f"{path}: cannot be read: {' '.join(str(fault).split())}") from fault


def _parquet_schema(file: Path) -> pa.Schema:
    with _faults(file):
        return pq.read_schema(file)


def _read_parquet(file: Path, names: list[str]) -> pa.Table:
    with _faults(file), pq.ParquetFile(file) as parquet:
        return parquet.read(columns=names)


def _csv_columns(file: Path) -> list[str]:
    with _faults(file), pa.csv.open_csv(file, parse_options=_csv_shape()) as reader:
        return list(reader.schema.names)


def _read_csv(file: Path, names: list[str]) -> pa.Table:
    """Every cell as a string, null where it is empty, so that a bad one can be named by its row."""
    convert = pa.csv.ConvertOptions(
        include_columns=names,
        column_types=dict.fromkeys(names, pa.string()),
        strings_can_be_null=True,
        null_values=[""],
    )
    with _faults(file):
        return pa.csv.read_csv(file, parse_options=_csv_shape(), convert_options=convert)


def _csv_shape() -> Any:
    return pa.csv.ParseOptions(newlines_in_values=True)
