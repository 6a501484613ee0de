"""State that servers share and that survives them: a JSON file, replaced as a whole by one rename."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic

from meshfold.model.errors import InvalidConfig, InvalidQuery, NotDurable
from meshfold.service.state_kind import State, StateKind

__all__ = ["StateFile", "StateKind", "append_lines", "last_bytes", "sync_folder"]

# A change waits so long for the lock that another process holds.
LOCK_S = 0.5
_LOCK_POLL_S = 0.01


class StateFile(Generic[State]):
    """One state, in the file PATH. Servers may share it: a writer holds a lock (flock) on PATH.lock.

    on_write: called with each state that was written, under the lock, to log what changed; may raise OSError, which
    undoes nothing.
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
        # Of that content.
        self._state: State | InvalidConfig | None = None
        self._last: State | None = None

    @property
    def name(self) -> str:
        return str(self._path)

    @property
    def last(self) -> State | None:
        """The latest state that was read or written here."""
        return self._last

    @property
    def is_seen(self) -> bool:
        """A file that cannot be read is an error of its own."""
        return True

    def keep(self, state: State) -> bool:
        """There is no other place than the file."""
        return False

    def close(self) -> None:
        """Nothing is open between calls."""

    def read(self) -> State | None:
        """What the file holds; None without a file. The same object as before where the bytes are the same.

        For one thread at a time. Raises InvalidConfig where the file cannot be read.
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
        """Writes what `change` makes of the state, durably; other writers wait meanwhile.

        Raises NotDurable where it cannot be written, InvalidConfig where it cannot be read, InvalidQuery where it would
        be larger than a file may be, and what `change` raises.
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
        """The whole content: times of files have steps of milliseconds and stay behind on network file systems,
        where opening a file shows what is there."""
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
        """Raises NotDurable where another process holds it for LOCK_S; OSError."""
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
        """The descriptor that holds the lock; None where another does."""
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Somebody may have removed the file since it was opened: then others lock another one.
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
    """Makes the names in it durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def last_bytes(path: Path, most_bytes: int) -> bytes | None:
    """The end of a file; None where there is no file. Raises OSError, also for what is not a regular file."""
    try:
        # Opening a FIFO would wait for its other end.
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
    """Appends whole lines durably, after a line that a kill cut off. Raises OSError."""
    new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            lines = b"\n" + lines
        view = memoryview(lines)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        sync_folder(path.parent)
