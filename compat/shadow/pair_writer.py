"""Pairs into a folder of Parquet files, one row a pair, which others may read at any time."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from meshfold.compat.shadow.pair_limits import PairLimits
from meshfold.compat.shadow.pair_redaction import PairRedaction
from meshfold.compat.shadow.pair_rows import row_of
from meshfold.compat.shadow.pairs import Pair, PairSide, SideAnswer

__all__ = ["PairLimits", "PairWriter", "pair_files"]

_log = logging.getLogger(__name__)

PREFIX, SUFFIX = "pairs-", ".parquet"
# Files of string ids: a column has one type in all files of a reader's glob.
STRINGS_SUFFIX = f"-strings{SUFFIX}"
_NEW = ".new"
# A file that nobody finished for so long is a dead writer's.
_DEAD_S = 3600.0
# After a write failed nothing is tried for so long: what comes meanwhile is dropped.
_PATIENCE_S = 1.0
# Of an item and its score as Python's objects.
_ITEM_BYTES, _PAIR_BYTES = 80, 1000

_SIDE_FIELDS = {
    "scores": pa.list_(pa.float64()),
    "status": pa.string(),
    "latency_ms": pa.float64(),
    "version": pa.string(),
}


class PairWriter:
    """One thread writes; several writers may share a folder. A file appears whole, by one rename, and never changes.

    A kill loses the pairs that wait in memory, which PairLimits bounds.
    """

    def __init__(
        self,
        folder: Path,
        limits: PairLimits | None = None,
        redaction: Callable[[Pair], Pair] | None = None,
    ) -> None:
        """redaction: what of a pair is written; None for PairRedaction's defaults."""
        self._folder = folder
        self._limits = limits or PairLimits()
        self._redaction = redaction or PairRedaction()
        self._waiting: list[Pair] = []
        self._waiting_bytes = 0
        self._begun_s = 0.0
        self._failed_s = float("-inf")
        self.written = 0
        self.dropped = 0

    def append(self, pair: Pair) -> None:
        """Never raises for the disk's sake: what cannot be written is dropped and counted."""
        if not self._waiting:
            self._begun_s = time.monotonic()
        pair = self._redaction(pair)
        self._waiting.append(pair)
        self._waiting_bytes += _size(pair)
        if (
            len(self._waiting) >= self._limits.file_rows
            or self._waiting_bytes >= self._limits.file_bytes
            or self._is_old()
        ):
            self.flush()

    def tick(self) -> None:
        """To be called every few seconds: writes what waits long enough and removes files that are too old."""
        if self._waiting and self._is_old():
            self.flush()
        self._expire(0)

    def flush(self) -> None:
        """Writes what waits, durably, as a file for each kind of ids."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        for of_strings in (False, True):
            pairs = [pair for pair in waiting if _has_strings(pair) is of_strings]
            if pairs:
                self._write(pairs, of_strings)

    def close(self) -> None:
        self.flush()

    def _is_old(self) -> bool:
        return time.monotonic() - self._begun_s >= self._limits.file_age_s

    def _write(self, pairs: Sequence[Pair], of_strings: bool) -> None:
        if time.monotonic() - self._failed_s < _PATIENCE_S:
            self.dropped += len(pairs)
            return
        try:
            table, unfit = _table(pairs, of_strings)
            self.dropped += unfit
            if table.num_rows:
                self._write_file(table, of_strings)
                self.written += table.num_rows
        except (OSError, pa.ArrowException) as error:  # a full disk, say: the next file may succeed
            self.dropped += len(pairs)
            self._failed_s = time.monotonic()
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            _log.error("%d pairs could not be written to %s: %s", len(pairs), self._folder, reason)

    def _write_file(self, table: pa.Table, of_strings: bool) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        content = sink.getvalue()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._expire(len(content))
        # The moment orders files by age; the rest keeps those of several writers apart.
        name = f"{PREFIX}{time.time_ns() // 1_000_000}-{secrets.token_hex(4)}"
        path = self._folder / f"{name}{STRINGS_SUFFIX if of_strings else SUFFIX}"
        # Readers of the folder pass over names that begin with a dot.
        new = self._folder / f".{path.name}{_NEW}"
        try:
            # Only the owner may read what people were shown.
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            new.replace(path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _expire(self, room_bytes: int) -> None:
        """Removes the oldest files until there is room and none is too old, and what dead writers left."""
        try:
            files = pair_files(self._folder)
            total = sum(size for _, size, _ in files)
            oldest_s = time.time() - self._limits.age_s
            for path, size, changed_s in files:
                if total + room_bytes <= self._limits.bytes and changed_s >= oldest_s:
                    break
                path.unlink(missing_ok=True)
                total -= size
            for path in self._folder.glob(f".{PREFIX}*{_NEW}"):
                if path.stat().st_mtime < time.time() - _DEAD_S:
                    path.unlink(missing_ok=True)
        except FileNotFoundError:  # another writer was faster
            return
        except OSError as error:
            _log.error("old pairs in %s could not be removed: %s", self._folder, error.strerror)


def pair_files(folder: Path) -> Sequence[tuple[Path, int, float]]:
    """Path, bytes and time of the last change (seconds since 1970) of each file of pairs, oldest first."""
    found = []
    for path in sorted(folder.glob(f"{PREFIX}*{SUFFIX}")):
        try:
            status = path.stat()
        except FileNotFoundError:  # removed meanwhile
            continue
        found.append((path, status.st_size, status.st_mtime))
    return found


def _schema(of_strings: bool) -> pa.Schema:
    fields: dict[str, pa.DataType] = {
        "request_id": pa.string(),
        "surface": pa.string(),
        "user_key": pa.string(),
        "unix_ms": pa.int64(),
        "max_results": pa.int64(),
        "filter": pa.string(),
        "request": pa.binary(),
        "is_redacted": pa.bool_(),
        "served_by": pa.string(),
        "slices": pa.map_(pa.string(), pa.string()),
    }
    for side in PairSide:
        fields[f"{side}_item_ids"] = pa.list_(pa.string() if of_strings else pa.int64())
        fields |= {f"{side}_{name}": kind for name, kind in _SIDE_FIELDS.items()}
    return pa.schema(list(fields.items()))


def _table(pairs: Sequence[Pair], of_strings: bool) -> tuple[pa.Table, int]:
    """The rows, and how many pairs no row can hold, such as one with an id beyond 64 bits."""
    schema = _schema(of_strings)
    rows = [row_of(pair) for pair in pairs]
    for row in rows:
        row["slices"] = list(row["slices"].items())
    try:
        return pa.Table.from_pylist(rows, schema), 0
    except (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError):
        if len(pairs) == 1:
            _log.error("a pair could not be written: no row can hold its values")
            return schema.empty_table(), 1
    tables, unfit = zip(*(_table([pair], of_strings) for pair in pairs), strict=True)
    return pa.concat_tables(tables), sum(unfit)


def _sides(pair: Pair) -> list[SideAnswer]:
    return [answer for answer in (pair.mesh, pair.model, pair.again) if answer is not None]


def _has_strings(pair: Pair) -> bool:
    return any(answer.item_ids and isinstance(answer.item_ids[0], str) for answer in _sides(pair))


def _size(pair: Pair) -> int:
    """About, in memory."""
    items = sum(len(answer.item_ids) for answer in _sides(pair))
    return _PAIR_BYTES + len(pair.request) + _ITEM_BYTES * items
