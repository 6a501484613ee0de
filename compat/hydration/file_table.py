"""Looks users up in a memory-mapped copy of a Parquet file.

Parquet is compressed and cannot be read row by row. So its rows are copied once, batch by batch, to an Arrow file,
whose values have the same layout on disk as in memory. The copy is mapped and then unlinked, so that the system frees
it after its last use. Memory has the sorted user ids and the row of each.
"""

from __future__ import annotations

import bisect
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meshfold.model.errors import InvalidData
from meshfold.model.types import FeatureList, Ids, User, no_ids

USER_ID, USER_KEY, HISTORY = "user_id", "user_key", "history"
# Rows of a batch while copying.
_ROWS = 8192


class FileTable:
    """The users of one version of a file. Lookups read the disk only through the memory mapping."""

    def __init__(self, path: Path, features: Callable[[str], bool], folder: Path | None = None) -> None:
        """features: whether to read a column. folder: of the copy; None for the system's temporary folder.

        Raises InvalidData where the file is no table of users, OSError where reading or copying fails.
        """
        self._path = path
        with open(path, "rb") as file:
            self.stamp = stamp_of(os.fstat(file.fileno()))
            try:
                parquet = pq.ParquetFile(file)
                schema = _schema(path, parquet.schema_arrow, features)
                self._strings = USER_KEY in schema.names
                keys = self._copy(parquet, schema, folder)
            except pa.ArrowException as error:
                raise InvalidData(f"{path} cannot be read as Parquet: {_line(error)}") from None
        self._order(keys)

    def __len__(self) -> int:
        return len(self._rows)

    def user(self, user_id: int | str) -> User | None:
        """The user of an id; None where the file lacks it. Lists of numbers are views of the mapping."""
        if isinstance(user_id, str) is not self._strings:
            return None
        place = (
            bisect.bisect_left(self._keys, user_id, key=lambda key: key.as_py())
            if self._strings
            else int(np.searchsorted(self._keys, user_id))
        )
        if place == len(self._keys) or self._key(place) != user_id:
            return None
        row = int(self._rows[place])
        batch = bisect.bisect_right(self._starts, row) - 1
        columns = self._columns[batch]
        at = row - self._starts[batch]
        history: Ids = no_ids()
        found: dict[str, FeatureList] = {}
        for name, column in columns:
            values = _values(column, at)
            if name == HISTORY:
                history = values if values is not None else no_ids()  # type: ignore[assignment]
            elif values is not None and len(values):
                found[name] = values
        return User(user_id, history, found)

    def _key(self, place: int) -> int | str:
        key: int | str = self._keys[place].as_py() if self._strings else int(self._keys[place])
        return key

    def _copy(self, parquet: pq.ParquetFile, schema: pa.Schema, folder: Path | None) -> list[pa.Array]:
        """Copies the other columns to the mapped file; returns the user ids."""
        key = schema.names[0]
        kept = schema.remove(0)
        keys: list[pa.Array] = []
        row = 0
        descriptor, name = tempfile.mkstemp(".arrow", "meshfold-hydration-", folder)
        os.close(descriptor)
        try:
            with pa.OSFile(name, "wb") as sink, pa.ipc.new_file(sink, kept) as writer:
                for batch in parquet.iter_batches(_ROWS, columns=schema.names):
                    whole = pa.RecordBatch.from_arrays(
                        [_cast(batch.column(f.name), f, self._path) for f in schema], schema=schema
                    )
                    _check_nulls(whole, key, row, self._path)
                    keys.append(whole.column(0))
                    writer.write_batch(whole.select(kept.names))
                    row += whole.num_rows
            reader = pa.ipc.open_file(pa.memory_map(name))
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name)
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        self._starts = np.cumsum([0, *(batch.num_rows for batch in batches)])[:-1].tolist()
        self._columns = [[(n, batch.column(n)) for n in kept.names] for batch in batches]
        return keys

    def _order(self, keys: list[pa.Array]) -> None:
        """Sorts the ids; refuses a file with a user twice."""
        whole = pa.concat_arrays([pa.array([], pa.large_string() if self._strings else pa.int64()), *keys])
        self._keys: Any
        if self._strings:
            order = pc.sort_indices(whole)
            self._keys = whole.take(order)
            self._rows = order.to_numpy().astype(np.int64)
            twice = pc.equal(self._keys[1:], self._keys[:-1]).to_numpy(zero_copy_only=False)
        else:
            ids = whole.to_numpy()
            self._rows = np.argsort(ids, kind="stable")
            self._keys = ids[self._rows]
            twice = self._keys[1:] == self._keys[:-1]
        if twice.any():
            first = int(twice.argmax())
            rows = f"rows {self._rows[first]} and {self._rows[first + 1]}"
            raise InvalidData(f"{self._path}: {rows} are of the same user; write one row a user")


def stamp_of(stat: os.stat_result) -> tuple[int, int, int, int]:
    """A stamp of a file, which changes when the file is replaced or written."""
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def _schema(path: Path, found: pa.Schema, features: Callable[[str], bool]) -> pa.Schema:
    """The columns to copy, the user id first, with their types in the copy."""
    keys = [name for name in (USER_ID, USER_KEY) if name in found.names]
    if len(keys) != 1:
        raise InvalidData(f"{path} must have one column {USER_ID} or {USER_KEY}; it has {_names(found)}")
    kept = [name for name in found.names if name not in keys and (name == HISTORY or features(name))]
    if not kept:
        raise InvalidData(f"{path} has no {HISTORY} and no feature that is wanted; it has {_names(found)}")
    if len(set(found.names)) < len(found.names):
        raise InvalidData(f"{path} has two columns of one name: {_names(found)}")
    key = keys[0]
    key_type = _plain(found.field(key).type)
    wanted = pa.int64() if key == USER_ID else pa.large_string()
    if key_type != wanted:
        raise InvalidData(f"{path}: {key} must hold {wanted}, got {found.field(key).type}")
    columns = [pa.field(key, wanted)]
    for name in kept:
        declared = found.field(name).type
        values = _plain(declared.value_type if _is_list(declared) else declared)
        if values is None or (name == HISTORY and (not _is_list(declared) or values == pa.float32())):
            expected = (
                "a list of whole numbers or strings"
                if name == HISTORY
                else "numbers, strings or a list of them"
            )
            raise InvalidData(f"{path}: {name} must hold {expected}, got {declared}; leave it out or cast it")
        columns.append(pa.field(name, pa.large_list(values)))
    return pa.schema(columns)


def _plain(kind: pa.DataType) -> pa.DataType | None:
    """The type of a column in the copy; None where it cannot be a list of a user."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float32()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.large_string()
    return None


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _cast(column: pa.Array, field: pa.Field, path: Path) -> pa.Array:
    """Casts a column to lists: a single value to a list of one, a null to an empty list."""
    try:
        if pa.types.is_large_list(field.type) and not _is_list(column.type):
            values = column.cast(field.type.value_type)
            present = pc.is_valid(values).cast(pa.int64()).to_numpy(zero_copy_only=False)
            offsets = np.concatenate([[0], np.cumsum(present)])
            return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values.drop_null())
        return column.cast(field.type)
    except pa.ArrowInvalid as error:
        raise InvalidData(f"{path}: {field.name} cannot be cast to {field.type}: {_line(error)}") from None


def _check_nulls(batch: pa.RecordBatch, key: str, row: int, path: Path) -> None:
    if batch.column(0).null_count:
        place = row + pc.index(pc.is_null(batch.column(0)), True).as_py()
        raise InvalidData(f"{path}: row {place} has no {key}")
    for name in batch.schema.names[1:]:
        if batch.column(name).flatten().null_count:
            raise InvalidData(
                f"{path}: a list of {name} in rows {row} to {row + batch.num_rows - 1} holds a null"
            )


def _values(column: Any, at: int) -> FeatureList | None:
    values = column[at].values
    if values is None:
        return None
    if pa.types.is_large_string(values.type):
        return tuple(values.to_pylist())
    numbers: FeatureList = values.to_numpy()
    return numbers


def _names(schema: pa.Schema) -> str:
    return ", ".join(schema.names) or "no columns"


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
