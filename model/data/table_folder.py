"""The files of a table: one file, or all files of a folder and its sub-folders, with values from folder names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote

from meshfold.model.errors import InvalidData

# The missing value in folder names of Hive, Spark, pyarrow, Polars and DuckDB.
_MISSING = "__HIVE_DEFAULT_PARTITION__"
_EXPECTED = "expected a .parquet or .csv file"
# Folders with the logs of table formats that keep outdated files. Only the log lists the current ones.
_LOGS = {"_delta_log": "Delta", ".hoodie": "Hudi"}


class TableFormat(StrEnum):
    PARQUET = "Parquet"
    CSV = "CSV"


_NAMES = {
    TableFormat.PARQUET: re.compile(r"\.(parquet|parq|pq)\Z", re.IGNORECASE),
    TableFormat.CSV: re.compile(r"\.csv(\.(gz|bz2|xz|zst|lz4))?\Z", re.IGNORECASE),
}


@dataclass(frozen=True)
class TablePart:
    """One file of a table.

    partition: (column, value) for each folder name such as genre=Comedy, outermost first; None is a missing value.
    """

    path: Path
    partition: tuple[tuple[str, str | None], ...] = ()


def parts_of(path: Path) -> tuple[TableFormat, tuple[TablePart, ...]]:
    """The format of a file or folder, and its files in the order of their names.

    In a folder, names that begin with _ or . are skipped, except sub-folders such as _column=value. Raises InvalidData
    for a file of another format, for a mix of both formats, and where there is no file.
    """
    if not path.exists():
        raise InvalidData(f"{path}: {_EXPECTED} or a folder of them; nothing is there")
    if path.is_file():
        return _format_of(path), (TablePart(path),)
    if not path.is_dir():
        raise InvalidData(f"{path}: {_EXPECTED} or a folder of them, got neither")
    parts = tuple(_walk(path, (), {}))
    if not parts:
        raise InvalidData(f"{path}: {_EXPECTED} or a folder of them; nothing is there")
    formats = [_format_of(part.path, "a folder of tables") for part in parts]
    for part, found in zip(parts, formats, strict=True):
        if found is not formats[0]:
            raise InvalidData(
                f"{path}: the folder mixes Parquet and CSV: {parts[0].path} and {part.path}; keep one of them"
            )
    return formats[0], parts


def _walk(
    folder: Path, partition: tuple[tuple[str, str | None], ...], met: dict[tuple[int, int], Path]
) -> Iterator[TablePart]:
    try:
        status = folder.stat()
        names = sorted(os.listdir(folder))
    except OSError as fault:
        raise InvalidData(f"{folder}: cannot be read: {fault.strerror}") from fault
    # Links may lead to a folder twice, or form a loop.
    known = met.setdefault((status.st_dev, status.st_ino), folder)
    if known is not folder:
        raise InvalidData(f"{folder}: is the same folder as {known}; remove the link")
    for log, product in _LOGS.items():
        if log in names:
            raise InvalidData(
                f"{folder}: is a {product} table, whose log lists the current files; export it as plain Parquet"
            )
    for name in names:
        path = folder / name
        folder_below = path.is_dir()
        # A folder such as _y=1 is a partition of a column _y. Writers leave _temporary and _SUCCESS behind.
        if name.startswith(".") or (name.startswith("_") and not (folder_below and "=" in name)):
            continue
        if folder_below:
            yield from _walk(path, (*partition, *_partition_of(path)), met)
        else:
            yield TablePart(path, partition)


def _partition_of(folder: Path) -> Iterator[tuple[str, str | None]]:
    """Yields (column, value) of a folder name such as genre=Science%20Fiction; nothing for other names."""
    column, equal, value = folder.name.partition("=")
    if not equal:
        return
    if not column:
        raise InvalidData(
            f"{folder}: expected a folder name such as column=value, got no column; rename the folder"
        )
    try:
        yield (
            unquote(column, errors="strict"),
            None if value in ("", _MISSING) else unquote(value, errors="strict"),
        )
    except UnicodeDecodeError as fault:
        raise InvalidData(
            f"{folder}: the folder name decodes to bytes that are not UTF-8; rename the folder"
        ) from fault


def _format_of(path: Path, where: str = "") -> TableFormat:
    for known, name in _NAMES.items():
        if name.search(path.name):
            if not path.is_file():
                raise InvalidData(f"{path}: {_EXPECTED}, got a link to nothing or a special file; remove it")
            return known
    if where:
        raise InvalidData(
            f"{path}: {where} holds .parquet or .csv files only; move this file away, or begin its name with _ or ."
        )
    raise InvalidData(f"{path}: {_EXPECTED}, got {path.suffix or 'no suffix'}")
