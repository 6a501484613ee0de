"""Writes pairs into a folder of Parquet files, one row per pair, which can be read at any time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from meshfold.compat.parquet_folder import SUFFIX, ParquetFolder, parquet_files
from meshfold.compat.shadow.pair_limits import PairLimits
from meshfold.compat.shadow.pair_redaction import PairRedaction
from meshfold.compat.shadow.pair_rows import row_of
from meshfold.compat.shadow.pairs import Pair, PairSide, SideAnswer

__all__ = ["SUFFIX", "PairLimits", "PairWriter", "pair_files"]

_log = logging.getLogger(__name__)

PREFIX = "pairs-"
# Suffix of files with string ids, so that all files of a glob have the same column types.
STRINGS_SUFFIX = f"-strings{SUFFIX}"
# Bytes of an item with its score, and of a pair, as Python objects.
_ITEM_BYTES, _PAIR_BYTES = 80, 1000

_SIDE_FIELDS = {
    "scores": pa.list_(pa.float64()),
    "status": pa.string(),
    "latency_ms": pa.float64(),
    "version": pa.string(),
}


class PairWriter:
    """Writes from one thread; several writers may share a folder. A file appears as a whole, by a rename.

    A killed process loses the pairs in memory, which PairLimits bounds.
    """

    def __init__(
        self,
        folder: Path,
        limits: PairLimits | None = None,
        redaction: Callable[[Pair], Pair] | None = None,
    ) -> None:
        """redaction: makes the pair that is written; None for PairRedaction's defaults."""
        self._limits = limits or PairLimits()
        self._files = ParquetFolder(folder, PREFIX, "pairs", self._limits.bytes, self._limits.age_s)
        self._redaction = redaction or PairRedaction()
        self._waiting: list[Pair] = []
        self._waiting_bytes = 0
        self._begun_s = 0.0
        self.written = 0
        self.dropped = 0

    def append(self, pair: Pair) -> None:
        """Adds a pair. Disk errors raise nothing: pairs that cannot be written are dropped and counted."""
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
        """Writes pairs that waited long enough and deletes files that are too old. Call it every few seconds."""
        if self._waiting and self._is_old():
            self.flush()
        self._files.expire()

    def flush(self) -> None:
        """Writes the pairs in memory durably, as one file for each kind of ids."""
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
        if self._files.is_failing:
            self.dropped += len(pairs)
            return
        table, unfit = _table(pairs, of_strings)
        self.dropped += unfit
        if not table.num_rows:
            return
        if self._files.write(table, STRINGS_SUFFIX if of_strings else SUFFIX):
            self.written += table.num_rows
        else:
            self.dropped += table.num_rows


def pair_files(folder: Path) -> Sequence[tuple[Path, int, float]]:
    """Path, bytes and time of the last change (seconds since 1970) of each file of pairs, oldest first."""
    return parquet_files(folder, PREFIX)


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
    """The rows, and the number of pairs that cannot be a row, such as one with an id beyond 64 bits."""
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
    """Estimated bytes of a pair in memory."""
    items = sum(len(answer.item_ids) for answer in _sides(pair))
    return _PAIR_BYTES + len(pair.request) + _ITEM_BYTES * items
