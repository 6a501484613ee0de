"""The recorder: a bounded queue off the callers' path, and a thread that writes records."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from meshfold.compat.key import keyed_hash
from meshfold.compat.migration.bounded_queue import BoundedQueue
from meshfold.compat.recording.contents import Contents
from meshfold.compat.recording.record_files import SYNC_S, FileLimits, RecordFiles, record_files
from meshfold.compat.recording.redaction import Redaction, UserIds
from meshfold.compat.traffic import Traffics
from meshfold.protos.meshfold.v1 import recording_pb2 as pb
from meshfold.service.front import Answered, Outcome
from meshfold.service.recording import RecordingConfig

_log = logging.getLogger(__name__)

# Seconds without writes after a failed write; records are dropped meanwhile.
_PATIENCE_S = 1.0
_FLUSH_S = 5.0
# Number of files of a recording at its largest size.
_FILES = 16
# Seconds between checks for files that are too old.
_EXPIRY_S = 60.0


@dataclass(frozen=True)
class RecordingState:
    """The state of a recording. who, why, since_unix_ms: of its start. written, dropped: records since the server
    started."""

    on: bool
    folder: Path
    who: str
    why: str
    since_unix_ms: int
    written: int
    dropped: int
    files: int
    bytes: int


@dataclass(frozen=True)
class _Entry:
    """A call to record. shadow: None for the caller's answer."""

    unix_ms: int
    answered: Answered
    shadow: Outcome | None


class _Flush:
    """A queue entry that is done when all entries before it are durable."""

    def __init__(self) -> None:
        self.done = threading.Event()


class Recorder:
    """An observer that records calls while recording is on."""

    def __init__(self, config: RecordingConfig, traffics: Traffics | None = None) -> None:
        """traffics: the Traffic of mapped methods."""
        self._folder = Path(config.folder)
        limits = FileLimits(config.bytes // _FILES, config.bytes, config.age_s)
        self._files = RecordFiles(self._folder, limits)
        redaction = Redaction(UserIds(config.user_ids), config.omitted, keyed_hash(config.key_file))
        self._contents = Contents(redaction, traffics or {})
        self.queue: BoundedQueue[_Entry | _Flush] = BoundedQueue(config.queue)
        # Added to call numbers, so that records of several servers can be in one folder.
        self._server = secrets.randbits(32) << 32
        self._turn = threading.Lock()
        self._on = config.on
        self._who = self._why = ""
        self._since_unix_ms = _now_ms() if config.on else 0
        self.written = 0
        self._failed = 0
        self._failed_s = float("-inf")
        self._thread = threading.Thread(target=self._work, name="meshfold-recorder", daemon=True)

    @property
    def on(self) -> bool:
        return self._on

    @property
    def dropped(self) -> int:
        """Number of records dropped by a full queue or disk."""
        return self.queue.dropped + self._failed

    def answered(self, answered: Answered) -> None:
        if self._on:
            self._offer(answered, None)

    def shadowed(self, answered: Answered, shadow: Outcome) -> None:
        if self._on:
            self._offer(answered, shadow)

    def start(self) -> None:
        self._thread.start()

    def begin(self, who: str, why: str) -> RecordingState:
        """Starts recording; does nothing where it is on already."""
        with self._turn:
            if not self._on:
                self._who, self._why, self._since_unix_ms = who, why, _now_ms()
                self._on = True
                _log.info("calls are recorded to %s, by %r: %r", self._folder, who, why)
        return self.state()

    def end(self) -> RecordingState:
        """Stops recording, after all records are durable."""
        with self._turn:
            if self._on:
                self._on = False
                self._flush()
                _log.info("calls are recorded no more")
        return self.state()

    def state(self) -> RecordingState:
        files = record_files(self._folder)
        return RecordingState(
            on=self._on,
            folder=self._folder,
            who=self._who,
            why=self._why,
            since_unix_ms=self._since_unix_ms,
            written=self.written,
            dropped=self.dropped,
            files=len(files),
            bytes=sum(size for _, size, _ in files),
        )

    def stop(self, grace_s: float) -> None:
        """Writes the waiting records, within the grace."""
        self._on = False
        self.queue.close()
        if self._thread.is_alive():
            self._thread.join(max(grace_s, _PATIENCE_S))

    def _offer(self, answered: Answered, shadow: Outcome | None) -> None:
        # All replies in memory: a shadow's entry includes the caller's answer.
        replies = [outcome.reply for outcome in (answered.outcome, shadow) if outcome is not None]
        size = len(answered.message) + sum(reply.size_bytes for reply in replies if reply is not None)
        self.queue.offer(_Entry(_now_ms(), answered, shadow), size)

    def _flush(self) -> None:
        flush = _Flush()
        self.queue.append(flush)
        if self._thread.is_alive():
            flush.done.wait(_FLUSH_S)

    def _work(self) -> None:
        expired_s = float("-inf")
        while not self.queue.over:
            entry = self.queue.take(SYNC_S)
            try:
                if isinstance(entry, _Entry):
                    self._write(entry)
                elif isinstance(entry, _Flush):
                    self._files.close()
                else:
                    self._files.sync(SYNC_S)
                if time.monotonic() - expired_s > _EXPIRY_S:
                    expired_s = time.monotonic()
                    self._files.expire()
            except Exception as error:  # an error, such as a full disk, costs only this record
                self._fail(entry, error)
            if isinstance(entry, _Flush):
                entry.done.set()
            # Drops its reference to the call before it waits.
            del entry
        try:
            self._files.close()
        except OSError as error:
            self._fail(None, error)

    def _fail(self, entry: _Entry | _Flush | None, error: Exception) -> None:
        if isinstance(entry, _Entry):
            self._failed += 1
        self._failed_s = time.monotonic()
        reason = error.strerror if isinstance(error, OSError) else type(error).__qualname__
        _log.error("recording to %s failed, and goes on when it can: %s", self._folder, reason)

    def _write(self, entry: _Entry) -> None:
        if time.monotonic() - self._failed_s < _PATIENCE_S:
            self._failed += 1
            return
        self._files.append(self._record(entry).SerializeToString())
        self.written += 1

    def _record(self, entry: _Entry) -> pb.Recorded:
        answered, outcome = entry.answered, entry.shadow or entry.answered.outcome
        number: int = outcome.code.value[0]
        record = pb.Recorded(
            unix_ms=entry.unix_ms,
            call=self._server | answered.number & 0xFFFFFFFF,
            shadow=entry.shadow is not None,
            surface=answered.surface,
            mode=answered.mode,
            side=outcome.side.value,
            fallback="" if entry.shadow else answered.fallback,
            code=number,
            took_s=outcome.took_s,
        )
        self._contents.fill(record, answered, entry.shadow)
        return record


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
