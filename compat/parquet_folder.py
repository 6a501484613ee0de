"""A folder of Parquet files, of which the oldest are deleted; it can be read at any time."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from meshfold.compat.aged_files import aged_files, remove_oldest
from meshfold.service.state_file import sync_folder

_log = logging.getLogger(__name__)

SUFFIX = ".parquet"
_NEW = ".new"
# Seconds after which an unfinished file counts as left by a killed writer.
_DEAD_S = 3600.0
# Seconds without writes after a failed write; rows are dropped meanwhile.
PATIENCE_S = 1.0


class ParquetFolder:
    """Writes files that appear as a whole, by a rename, and never change. Several writers may share a folder."""

    def __init__(self, folder: Path, prefix: str, noun: str, most_bytes: int, age_s: float) -> None:
        """prefix: prefix of the file names. noun: the word for rows in the log. most_bytes, age_s: limits of all files
        of the prefix, over all writers; the oldest are deleted."""
        self._folder = folder
        self._prefix = prefix
        self._noun = noun
        self._most_bytes = most_bytes
        self._age_s = age_s
        self.failed_s = float("-inf")

    @property
    def is_failing(self) -> bool:
        """Whether a write has failed within PATIENCE_S, so that none is tried."""
        return time.monotonic() - self.failed_s < PATIENCE_S

    def write(self, table: pa.Table, suffix: str = SUFFIX) -> bool:
        """Writes rows to a new file; returns whether they are durable. A failure, such as a full disk, is logged."""
        if self.is_failing:
            return False
        try:
            self._write(table, suffix)
        except (OSError, pa.ArrowException) as error:
            self.failed_s = time.monotonic()
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            _log.error("%d %s could not be written to %s: %s", len(table), self._noun, self._folder, reason)
            return False
        return True

    def expire(self, room_bytes: int = 0) -> None:
        """Deletes the oldest files until there is room and none is too old, and files left by killed writers."""
        try:
            remove_oldest(
                parquet_files(self._folder, self._prefix), self._most_bytes, self._age_s, room_bytes
            )
            for path in self._folder.glob(f".{self._prefix}*{_NEW}"):
                if path.stat().st_mtime < time.time() - _DEAD_S:
                    path.unlink(missing_ok=True)
        except FileNotFoundError:  # another writer deleted it
            return
        except OSError as error:
            _log.error("old %s in %s could not be removed: %s", self._noun, self._folder, error.strerror)

    def _write(self, table: pa.Table, suffix: str) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        content = sink.getvalue()
        self._folder.mkdir(parents=True, exist_ok=True)
        self.expire(len(content))
        # The time sorts files by age; the random part separates files of several writers.
        path = self._folder / f"{self._prefix}{time.time_ns() // 1_000_000}-{secrets.token_hex(4)}{suffix}"
        # Readers of the folder skip names that begin with a dot.
        new = self._folder / f".{path.name}{_NEW}"
        try:
            # Readable by its owner alone, since it has results shown to users.
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            new.replace(path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        sync_folder(self._folder)


def parquet_files(folder: Path, prefix: str) -> Sequence[tuple[Path, int, float]]:
    """The files of a prefix, oldest first; see aged_files."""
    return aged_files(folder, f"{prefix}*{SUFFIX}")
