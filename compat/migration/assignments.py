"""The assignment log: a bounded queue, and a thread that writes Parquet files off the callers' path."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from meshfold.compat.key import KeyedHash, read_key
from meshfold.compat.migration.bounded_queue import BoundedQueue
from meshfold.compat.migration.methods import Method
from meshfold.model.errors import InvalidConfig
from meshfold.service.assignments import AssignmentsConfig
from meshfold.service.front import Answered, Outcome, Sample

if TYPE_CHECKING:
    import pyarrow as pa

    from meshfold.compat.parquet_folder import ParquetFolder

_log = logging.getLogger(__name__)

PREFIX = "assignments-"
# Most waiting calls.
_QUEUE = 10_000
# Rows converted to columns at once, which keeps Python's lock for about a millisecond.
_BATCH_ROWS = 500
# Rows and seconds after which a file is written; a kill loses at most those.
_FILE_ROWS, _FILE_S = 50_000, 60.0
# Seconds between checks for files that are too old.
_EXPIRY_S = 60.0


class AssignmentLog:
    """An observer that logs the answering side of each call."""

    def __init__(self, config: AssignmentsConfig, methods: Sequence[Method], file_s: float = _FILE_S) -> None:
        """methods: the logged methods. file_s: seconds after which a row is written.

        Raises InvalidConfig where no key file is set, or it cannot be read.
        """
        if not config.key_file:
            raise InvalidConfig(
                "assignments.key_file must name a file, since hashes of a random key join with nothing; "
                "`meshfold shadow key --out FILE` makes one"
            )
        self._config = config
        self._methods = methods
        self._file_s = file_s
        self._key = KeyedHash(read_key(Path(config.key_file)))
        self.queue: BoundedQueue[tuple[int, Answered]] = BoundedQueue(_QUEUE)
        self.written = 0
        self._failed = 0
        self._thread = threading.Thread(target=self._work, name="meshfold-assignments", daemon=True)

    @property
    def dropped(self) -> int:
        """Number of calls dropped by a full queue or disk."""
        return self.queue.dropped + self._failed

    def answered(self, answered: Answered) -> None:
        reply = answered.outcome.reply
        size = len(answered.message) + (0 if reply is None else reply.size_bytes)
        self.queue.offer((time.time_ns() // 1_000_000, answered), size)

    def shadowed(self, answered: Answered, shadow: Outcome) -> None:
        """Does nothing, since no user gets a shadow's answer."""

    def samples(self) -> Iterator[Sample]:
        yield Sample("meshfold_assignments", "Assignments written.", self.written, counts=True)
        meaning = "Assignments without room, or not written."
        yield Sample("meshfold_assignments_dropped", meaning, self.dropped, counts=True)
        yield Sample("meshfold_assignments_queue", "Assignments that wait to be written.", len(self.queue))

    def start(self) -> None:
        _log.info("which side answers which user is logged in %s", self._config.folder)
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        """Writes the waiting rows, within the grace."""
        self.queue.close()
        if self._thread.is_alive():
            self._thread.join(max(grace_s, 1.0))

    def _work(self) -> None:
        # Imported here, since it imports pyarrow, which only this log needs.
        from meshfold.compat.migration.assignment_keys import AssignmentKeys
        from meshfold.compat.migration.assignment_rows import AssignmentRows, Row, batch_of
        from meshfold.compat.parquet_folder import ParquetFolder

        config = self._config
        folder = ParquetFolder(Path(config.folder), PREFIX, "assignments", config.bytes, config.age_s)
        rows = AssignmentRows(AssignmentKeys(self._key), self._methods)
        waiting: list[Row] = []
        batches: list[pa.RecordBatch] = []
        begun_s = expired_s = time.monotonic()
        while True:
            entry = self.queue.take(min(self._file_s, 1.0))
            now_s = time.monotonic()
            if entry is not None:
                if not waiting and not batches:
                    begun_s = now_s
                try:
                    waiting.append(rows.row(*entry))
                except Exception as error:  # an unforeseen error costs that row
                    self._failed += 1
                    _log.error("an assignment could not be logged: %s", type(error).__qualname__)
            # Drops its reference to the call before it waits.
            del entry
            is_over = self.queue.over
            is_due = is_over or now_s - begun_s >= self._file_s or len(batches) * _BATCH_ROWS >= _FILE_ROWS
            if waiting and (is_due or len(waiting) >= _BATCH_ROWS):
                batches.append(batch_of(waiting))
                waiting = []
            if batches and is_due:
                self._write(folder, batches)
                batches = []
            if now_s - expired_s >= _EXPIRY_S:
                expired_s = now_s
                folder.expire()
            if is_over:
                return

    def _write(self, folder: ParquetFolder, batches: Sequence[pa.RecordBatch]) -> None:
        import pyarrow as pa

        table = pa.Table.from_batches(batches)
        if folder.write(table):
            self.written += len(table)
        else:
            self._failed += len(table)
