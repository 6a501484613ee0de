"""Reads Parquet and JSON lines into rows of plain values, with the columns of pair_rows.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from meshfold.compat.shadow.row_schema import COLUMNS, check_columns, target_of
from meshfold.compat.shadow.skipped import Skipped
from meshfold.model.errors import InvalidData

Row = dict[str, Any]

CUT_FILES = "files that end in the middle"

_PARQUET = b"PAR1"
# Rows in memory at once; a row may have thousands of items.
_BATCH_ROWS = 128
_MOST_LINE_BYTES = 16 << 20


def read_rows(path: Path, skipped: Skipped) -> Iterator[tuple[int, Row]]:
    """The rows of a file and their numbers from 1; invalid lines are skipped and counted.

    Raises InvalidData where the file cannot be read, is of another kind, or lacks columns.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_PARQUET))
            file.seek(0)
            if start == _PARQUET:
                yield from _parquet_rows(path, file)
            elif start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b""):
                yield from _json_rows(path, file, skipped)
            else:
                raise InvalidData(f"{path} is neither Parquet nor JSON lines (an object a line)")
    except OSError as error:
        raise InvalidData(f"{path} cannot be read: {error.strerror or error}") from None


def _parquet_rows(path: Path, file: BinaryIO) -> Iterator[tuple[int, Row]]:
    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise InvalidData(f"{path} ends in the middle or is damaged: {_line(error)}") from None
    schema = parquet.schema_arrow
    check_columns(path, schema.names)
    names = [name for name in schema.names if name in COLUMNS]
    targets = {name: target_of(path, name, schema.field(name).type) for name in names}
    number = 0
    try:
        for batch in parquet.iter_batches(_BATCH_ROWS, columns=list(targets)):
            columns = [_values(batch.column(name), target) for name, target in targets.items()]
            for values in zip(*columns, strict=True):
                number += 1
                yield number, dict(zip(targets, values, strict=True))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InvalidData(f"{path} is damaged behind row {number}: {_line(error)}") from None


def _json_rows(path: Path, file: BinaryIO, skipped: Skipped) -> Iterator[tuple[int, Row]]:
    is_checked = False
    for number, line in _lines(path, file, skipped):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            reason = "lines that are no JSON" if line.endswith(b"\n") else CUT_FILES
            skipped.add(reason, f"{path}, line {number}")
            continue
        if not isinstance(row, dict):
            skipped.add("lines that are no JSON objects", f"{path}, line {number}")
            continue
        if not is_checked:
            check_columns(path, list(row))
            is_checked = True
        yield number, row


def _lines(path: Path, file: BinaryIO, skipped: Skipped) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(_MOST_LINE_BYTES):
        number += 1
        if len(line) == _MOST_LINE_BYTES and not line.endswith(b"\n"):
            skipped.add(f"lines of more than {_MOST_LINE_BYTES} bytes", f"{path}, line {number}")
            while line and not line.endswith(b"\n"):
                line = file.readline(_MOST_LINE_BYTES)
        elif line.strip():
            yield number, line


def _values(column: pa.Array, target: pa.DataType | None) -> list[Any]:
    if target is None:
        return list(column.to_pylist())
    if pa.types.is_timestamp(target):
        # Fractions of a millisecond are cut off.
        column = column.cast(target, safe=False).cast(pa.int64())
    elif target != column.type:
        column = column.cast(target)
    return _lists(column) if pa.types.is_list(target) else list(column.to_pylist())


def _lists(column: pa.Array) -> list[Any]:
    """The same as to_pylist, but faster where no value in a list is null."""
    values = column.values
    if values.null_count:
        return list(column.to_pylist())
    # numpy converts numbers to Python's faster than pyarrow.
    flat = values.to_pylist() if pa.types.is_string(values.type) else values.to_numpy().tolist()
    offsets = column.offsets.to_pylist()
    present = column.is_valid().to_pylist()
    return [flat[offsets[i] : offsets[i + 1]] if is_there else None for i, is_there in enumerate(present)]


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
