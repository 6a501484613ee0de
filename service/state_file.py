"""State shared by servers in a JSON file, which a rename replaces as a whole."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Generic

from meshfold.model.errors import InvalidConfig, InvalidQuery, NotDurable
from meshfold.service.state_kind import State, StateKind

__all__ = ["StateFile", "StateKind", "append_lines", "last_bytes", "sync_folder"]

# Seconds that a change waits for another process's lock.
LOCK_S = 0.5
_LOCK_POLL_S = 0.01


class StateFile(Generic[State]):
    """A state in the file PATH, which servers may share: a writer locks PATH.lock (flock).

    on_write: called under the lock with each written state, to log the change; an OSError from it undoes nothing.
    """

    def __init__(
        self,
        path: Path,
        kind: StateKind[State],
        on_write: Callable[[State], None] = lambda _: None,
    ) -> None:
        self._path = path
        self._kind = kind
        self._on_write = on_write
        self._lock_path = path.with_name(path.name + ".lock")
        self._content: bytes | None = None
        # The decoded state of that content, or its error.
        self._state: State | InvalidConfig | None = None
        self._last: State | None = None

    @property
    def name(self) -> str:
        return str(self._path)

    @property
    def last(self) -> State | None:
        """The latest state read or written here."""
        return self._last

    @property
    def is_seen(self) -> bool:
        """Always true: a file that cannot be read raises InvalidConfig."""
        return True

    def keep(self, state: State) -> bool:
        """Always false: a file has no local copy."""
        return False

    def close(self) -> None:
        """Does nothing: no file is open between calls."""

    def read(self) -> State | None:
        """The state; None without a file; the same object as before where the bytes have not changed.

        Not thread-safe. Raises InvalidConfig where the file cannot be read.
        """
        content = self._bytes()
        if content != self._content:
            self._content = content
            self._state = None if content is None else self._decoded(content)
        if isinstance(self._state, InvalidConfig):
            raise self._state
        if self._state is not None:
            self._last = self._state
        return self._state

    def change(self, change: Callable[[State | None], State]) -> State:
        """Writes the result of `change` durably, under the lock.

        Raises NotDurable where the file cannot be written, InvalidConfig where it cannot be read, InvalidQuery where it
        would be too large, and the errors of `change`.
        """
        try:
            with self._lock():
                state = change(self.read())
                self._write(self._encoded(state))
                self._last = state
                self._on_write(state)
        except OSError as error:
            raise NotDurable(
                f"the {self._kind.noun} cannot be written to {self._path}: {error.strerror}"
            ) from None
        return state

    def _bytes(self) -> bytes | None:
        """The whole content, read each time: a file's modification time has coarse steps, and on network file systems
        it lags behind, while opening a file shows the latest content."""
        try:
            content = last_bytes(self._path, self._kind.most_bytes + 1)
        except OSError as error:
            raise InvalidConfig(
                f"the {self._kind.noun} in {self._path} cannot be read: {error.strerror}"
            ) from None
        if content is not None and len(content) > self._kind.most_bytes:
            raise self._damaged(f"it is longer than {self._kind.most_bytes} bytes")
        return content

    def _decoded(self, content: bytes) -> State | InvalidConfig:
        try:
            return self._kind.decode(json.loads(content.decode()))
        except RecursionError:
            return self._damaged("it is nested too deeply")
        except (ValueError, InvalidQuery) as error:
            return self._damaged(str(error))

    def _damaged(self, reason: str) -> InvalidConfig:
        return InvalidConfig(f"{self._path} holds no {self._kind.noun}: {reason}; {self._kind.remedy}")

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Takes the lock. Raises NotDurable where another process has it for LOCK_S; OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        end_s = time.monotonic() + LOCK_S
        while (descriptor := self._locked()) is None:
            if time.monotonic() >= end_s:
                raise NotDurable(
                    f"another process has held {self._lock_path} for {LOCK_S:g} s (`fuser -v` shows which)"
                )
            time.sleep(_LOCK_POLL_S)
        try:
            yield
        finally:
            os.close(descriptor)

    def _locked(self) -> int | None:
        """The descriptor of the lock; None where another process has it."""
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Where the file was removed since it was opened, other processes lock a new file.
            if os.path.samestat(os.fstat(descriptor), os.stat(self._lock_path)):
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(descriptor)
        return None

    def _encoded(self, state: State) -> bytes:
        text = json.dumps(self._kind.encode(state), indent=1, ensure_ascii=False) + "\n"
        content = text.encode()
        if len(content) > self._kind.most_bytes:
            raise InvalidQuery(
                self._kind.noun,
                f"would take {len(content)} bytes in {self._path}, of {self._kind.most_bytes}",
            )
        return content

    def _write(self, content: bytes) -> None:
        new = self._path.with_name(self._path.name + ".new")
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        sync_folder(self._path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the entries of a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def last_bytes(path: Path, most_bytes: int) -> bytes | None:
    """The end of a file; None where there is none. Raises OSError, also where it is not a regular file."""
    try:
        # O_NONBLOCK, since opening a FIFO would wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        os.lseek(descriptor, max(0, status.st_size - most_bytes), os.SEEK_SET)
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(most_bytes)
    finally:
        os.close(descriptor)


def append_lines(path: Path, lines: bytes) -> None:
    """Appends whole lines durably, after a possibly incomplete last line. Raises OSError."""
    new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            lines = b"\n" + lines
        view = memoryview(lines)
        try:
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        except OSError:
            # A full disk takes a part of a line, which programs that read whole lines would stumble over.
            with suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
    if new:
        sync_folder(path.parent)
