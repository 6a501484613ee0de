"""CSV files (RFC 4180 with a header) as tables of strings. Errors name the number of the bad row."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from meshfold.model.data import csv_text
from meshfold.model.data.csv_text import BadRow, blocks, header_end, open_text, row_at
from meshfold.model.errors import InvalidData

# Size of the first block of csv_columns, which reads the header alone.
_HEADER_BYTES = 1 << 16


def csv_columns(file: Path) -> list[str]:
    """The names in the header. Raises InvalidData where there is none."""
    with closing(open_text(file)) as stream:
        return _Reader(file, [], stream, min(_HEADER_BYTES, csv_text.BLOCK_BYTES)).columns


def read_csv(file: Path, names: Sequence[str]) -> pa.Table:
    """The named columns as large strings, byte for byte; null where a cell is empty.

    Raises InvalidData that names the row for quotes against RFC 4180, for a number of cells other than the header's,
    and for text that is not UTF-8.
    """
    with closing(open_text(file)) as stream:
        return _Reader(file, names, stream, csv_text.BLOCK_BYTES).read()


class _Reader:
    """Reader of one file: it cuts blocks of whole rows in order and parses them in parallel."""

    def __init__(self, file: Path, names: Sequence[str], stream: Any, block_bytes: int) -> None:
        self._file = file
        self._blocks = self._cut(stream, block_bytes)
        first = next(self._blocks, b"")
        end = header_end(first)
        self._rest = first[end:]
        try:
            self.columns = next(csv.reader(io.StringIO(first[:end].decode().lstrip("\r\n"), newline="")), [])
        except UnicodeDecodeError as fault:
            raise InvalidData(f"{file}: cannot be read: the header is {_NOT_UTF8}") from fault
        except csv.Error as fault:
            raise InvalidData(f"{file}: cannot be read: the header: {fault}") from fault
        if not self.columns:
            raise InvalidData(
                f"{file}: cannot be read: the file is empty; write a header with the columns' names"
            )
        self._convert = pa.csv.ConvertOptions(
            include_columns=list(names),
            column_types=dict.fromkeys(names, pa.large_string()),
            strings_can_be_null=True,
            null_values=[""],
        )
        self._schema = pa.schema([(name, pa.large_string()) for name in names])

    def read(self) -> pa.Table:
        tables: list[Future[pa.Table]] = []
        workers = os.cpu_count() or 1
        with ThreadPoolExecutor(workers) as pool:
            try:
                for block in self._whole_blocks():
                    tables.append(pool.submit(self._parse, block))
                    if len(tables) > 2 * workers:
                        tables[-2 * workers].result()
            except BadRow as fault:
                # A block before this one may hold an earlier bad row, which _rows raises.
                raise self._fault(self._rows(tables) + fault.row, fault) from fault
            self._rows(tables)
        return pa.concat_tables([self._schema.empty_table(), *(table.result() for table in tables)])

    def _rows(self, tables: Sequence[Future[pa.Table]]) -> int:
        """The number of rows of all tables. Raises InvalidData for the first bad row."""
        rows = 0
        for table in tables:
            try:
                rows += len(table.result())
            except BadRow as fault:
                raise self._fault(rows + fault.row, fault) from fault
        return rows

    def _whole_blocks(self) -> Iterator[bytes]:
        rest, self._rest = self._rest, b""
        if rest.lstrip(b"\r\n"):
            yield rest
        yield from self._blocks

    def _cut(self, stream: Any, block_bytes: int) -> Iterator[bytes]:
        """Yields blocks with at least one row, from the header's block on."""
        first = True
        try:
            for block in blocks(stream, block_bytes):
                if block.lstrip(b"\r\n"):
                    yield block
                    first = False
        except BadRow as fault:
            if not first:
                raise
            # In the first block row 1 is the header.
            raise self._fault(fault.row - 1, fault) from fault

    def _parse(self, block: bytes) -> pa.Table:
        def refuse(row: Any) -> str:
            seen.append(row)
            return "error"

        seen: list[Any] = []
        read = pa.csv.ReadOptions(use_threads=False, block_size=len(block), column_names=self.columns)
        shape = pa.csv.ParseOptions(newlines_in_values=b'"' in block, invalid_row_handler=refuse)
        try:
            return pa.csv.read_csv(pa.BufferReader(block), read, shape, self._convert)
        except pa.ArrowInvalid as fault:
            if seen:
                row = seen[0]
                raise BadRow(
                    row.number,
                    f"Expected {row.expected_columns} columns, got {row.actual_columns}: {row.text[:60]!r};"
                    " mend the row, or quote cells that hold a comma",
                ) from fault
            try:
                block.decode()
            except UnicodeDecodeError as where:
                raise BadRow(row_at(block, where.start), f"the text is {_NOT_UTF8}") from where
            raise

    def _fault(self, row: int, fault: BadRow) -> InvalidData:
        return InvalidData(f"{self._file}: cannot be read: {f'row {row}' if row else 'the header'}: {fault}")


_NOT_UTF8 = "not UTF-8; save the file as UTF-8"
