"""Causes of differences in a Parquet file, one row per difference.

Columns: request_id, item_id (integer ids, else null), item_key (string ids, else null), missing_from, rank,
cause.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from meshfold.compat.shadow.comparison import Cause, Difference
from meshfold.compat.shadow.pairs import PairSide
from meshfold.model.errors import InvalidData, NotDurable

DIFFERENCES = "differences.parquet"

_SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("item_id", pa.int64()),
        ("item_key", pa.string()),
        ("missing_from", pa.string()),
        ("rank", pa.int64()),
        ("cause", pa.string()),
    ]
)
_BATCH_ROWS = 16_384
_SIDES = (PairSide.MESH, PairSide.MODEL)


class DifferenceWriter:
    """Writes a file that appears as a whole when the block succeeds, and not at all where it fails."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._new = path.with_name(f".{path.name}.new")
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> DifferenceWriter:
        """Creates the temporary file. All methods raise NotDurable where the disk fails."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Readable by its owner alone, since it has results shown to users.
            descriptor = os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            self._file = open(descriptor, "wb")
            self._parquet = pq.ParquetWriter(self._file, _SCHEMA, compression="zstd")
        except OSError as error:
            raise self._failed(error) from None
        return self

    def append(self, request_id: str, differences: Sequence[Difference]) -> None:
        for difference in differences:
            is_string = isinstance(difference.item_id, str)
            self._rows.append(
                {
                    "request_id": request_id,
                    "item_id": None if is_string else difference.item_id,
                    "item_key": difference.item_id if is_string else None,
                    "missing_from": difference.missing_from,
                    "rank": difference.rank,
                    "cause": str(difference.cause),
                }
            )
        if len(self._rows) >= _BATCH_ROWS:
            self._write()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._write()
            self._parquet.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            if error is None:
                self._new.replace(self._path)
        except OSError as failure:
            if error is None:
                raise self._failed(failure) from None
        finally:
            self._file.close()
            self._new.unlink(missing_ok=True)

    def _write(self) -> None:
        try:
            self._parquet.write_table(pa.Table.from_pylist(self._rows, _SCHEMA))
        except OSError as error:
            raise self._failed(error) from None
        self._rows = []

    def _failed(self, error: OSError) -> NotDurable:
        return NotDurable(f"{self._path} cannot be written: {error.strerror or error}")


def read_differences(path: Path) -> dict[str, tuple[Difference, ...]]:
    """The differences of a file, by request id. Raises InvalidData."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InvalidData(f"{path} cannot be read: {str(error).strip().splitlines()[0]}") from None
    if missing := [name for name in _SCHEMA.names if name not in table.column_names]:
        raise InvalidData(
            f"{path}: column {missing[0]} is missing; `meshfold shadow compare` writes such a file"
        )
    found: dict[str, list[Difference]] = {}
    try:
        rows = table.select(_SCHEMA.names).cast(_SCHEMA).to_pylist()
        for row in rows:
            if row["missing_from"] not in _SIDES:
                raise ValueError(f"missing_from must be mesh or model, got {row['missing_from']!r}")
            item_id = row["item_key"] if row["item_id"] is None else row["item_id"]
            difference = Difference(item_id, row["missing_from"], row["rank"], Cause(row["cause"]))
            found.setdefault(row["request_id"], []).append(difference)
    except (pa.ArrowException, ValueError) as error:
        raise InvalidData(f"{path} holds no differences: {error}") from None
    return {request_id: tuple(differences) for request_id, differences in found.items()}
