"""Parquet and CSV files as one table, read column by column."""

from __future__ import annotations

import lzma
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from meshfold.model.data.column_types import BadPart, join, plain
from meshfold.model.data.csv_table import csv_columns, read_csv
from meshfold.model.data.exact_numbers import BadValue
from meshfold.model.data.table_column import TableColumn
from meshfold.model.data.table_folder import TableFormat, TablePart, parts_of
from meshfold.model.errors import InvalidData
from meshfold.model.schema import nearest

# Options that stream pages. By default a whole row group, often half a gigabyte of vectors, is read into memory first.
_BY_PAGES: dict[str, Any] = {"buffer_size": 1 << 20, "pre_buffer": False}


@dataclass(frozen=True)
class TableFiles:
    """One file, or all files of a folder and its sub-folders in the order of their names, as one table.

    columns: names of the files' columns, then names from folders such as genre=Comedy.
    """

    path: Path
    parts: tuple[TablePart, ...]
    columns: tuple[str, ...]
    is_csv: bool

    @classmethod
    def open(cls, path: Path) -> TableFiles:
        """Opens the files. Raises InvalidData unless they have one format and the same columns."""
        found, parts = parts_of(path)
        columns: tuple[str, ...] = ()
        for part in parts:
            own = _csv_columns(part.path) if found is TableFormat.CSV else _parquet_schema(part.path).names
            names = (*own, *(column for column, _ in part.partition))
            double = next((name for name, times in Counter(names).items() if times > 1), None)
            if double is not None:
                raise InvalidData(
                    f"{part.path}: two columns have one name, {double!r}; rename one, of the file or of its folders"
                )
            if columns and set(names) != set(columns):
                raise InvalidData(
                    f"{part.path}: its columns differ from those of {parts[0].path}: {_difference(names, columns)};"
                    " make them equal"
                )
            columns = columns or names
        return cls(path, parts, columns, found is TableFormat.CSV)

    def check(self, column: str) -> None:
        """Raises InvalidData where the files lack the column."""
        if column in self.columns:
            return
        if self.is_csv and len(self.columns) == 1 and (other := re.search(r"[;\t|]", self.columns[0])):
            raise InvalidData(
                f"{self.path}: there is no column {column!r}; the header holds {other[0]!r} and no comma:"
                " write CSV with commas between the cells"
            )
        raise InvalidData(f"{self.path}: there is no column {column!r}{nearest(column, self.columns)}")

    def read(self, names: Sequence[str]) -> dict[str, TableColumn]:
        """Reads the named columns. Raises InvalidData for a missing one."""
        distinct = sorted(set(names))
        for name in distinct:
            self.check(name)
        tables = [_read(part, distinct, self.is_csv) for part in self.parts]
        return {name: self._column(name, tables) for name in distinct}

    def stream(self, column: str, rows: int) -> Iterator[tuple[Path, pa.Array]]:
        """Yields the column of Parquet files in batches of `rows` rows or fewer."""
        for part in self.parts:
            with _faults(part.path), pq.ParquetFile(part.path, **_BY_PAGES) as parquet:
                for batch in parquet.iter_batches(batch_size=rows, columns=[column], use_threads=False):
                    yield part.path, batch.column(column)

    def types_of(self, column: str) -> list[tuple[Path, pa.DataType]]:
        """The type of the column in each Parquet file that has rows."""
        self.check(column)
        types = []
        for part in self.parts:
            with _faults(part.path), pq.ParquetFile(part.path) as parquet:
                given = column in dict(part.partition)
                if parquet.metadata.num_rows:
                    types.append(
                        (part.path, pa.string() if given else parquet.schema_arrow.field(column).type)
                    )
        return types

    def _column(self, name: str, tables: Sequence[pa.Table]) -> TableColumn:
        rows = tuple((part.path, len(table)) for part, table in zip(self.parts, tables, strict=True))
        by_file = [table[name] for table in tables]
        if self.is_csv or name in dict(self.parts[0].partition):
            return TableColumn(name, _one(by_file), rows, from_text=True)
        plains = [_plain(name, part.path, values) for part, values in zip(self.parts, by_file, strict=True)]
        try:
            joined, exact_below = join(plains)
        except BadPart as fault:
            raise InvalidData(
                f"{self.parts[fault.part].path}: column {name}, row {fault.place + 1}: {fault}"
            ) from fault
        return TableColumn(name, _one(joined), rows, from_text=False, exact_below=exact_below)


def _one(parts: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    return pa.chunked_array([chunk for part in parts for chunk in part.chunks], parts[0].type)


def _csv_columns(file: Path) -> list[str]:
    with _faults(file):
        return csv_columns(file)


def _plain(name: str, file: Path, values: pa.ChunkedArray) -> pa.ChunkedArray:
    start, chunks = 0, []
    for chunk in values.chunks:
        try:
            chunks.append(plain(chunk))
        except BadValue as fault:
            raise InvalidData(f"{file}: column {name}, row {start + fault.place + 1}: {fault}") from fault
        start += len(chunk)
    return pa.chunked_array(chunks or [plain(pa.array([], values.type))])


def _difference(names: Sequence[str], others: Sequence[str]) -> str:
    more, less = sorted(set(names) - set(others)), sorted(set(others) - set(names))
    sentences = [
        f"it {verb} {', '.join(map(repr, columns))}"
        for verb, columns in (("has", more), ("lacks", less))
        if columns
    ]
    return " and ".join(sentences)


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeError, EOFError, zlib.error, lzma.LZMAError) as fault:
        raise InvalidData(f"{path}: cannot be read: {' '.join(str(fault).split())}") from fault


def _parquet_schema(file: Path) -> pa.Schema:
    with _faults(file):
        return pq.read_schema(file)


def _read(part: TablePart, names: Sequence[str], is_csv: bool) -> pa.Table:
    """The named columns of one file, those from names of its folders included."""
    given = dict(part.partition)
    own = [name for name in names if name not in given]
    with _faults(part.path):
        if is_csv:
            # A table without columns has no number of rows, so one column is read at least.
            table = read_csv(part.path, own or csv_columns(part.path)[:1])
            rows = len(table)
        else:
            with pq.ParquetFile(part.path) as parquet:
                # Arrow 26 cannot read lists of dictionaries over several row groups.
                groups = [parquet.read_row_group(group, own) for group in range(parquet.num_row_groups)]
                table = pa.concat_tables(groups) if groups else parquet.read(own)
                rows = parquet.metadata.num_rows
    columns = {name: table[name] for name in own}
    for name in set(names) & set(given):
        columns[name] = pa.chunked_array([pa.repeat(pa.scalar(given[name], pa.large_string()), rows)])
    return pa.table(columns)
