"""Where modes are kept: one small interface, and a file behind it."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from meshfold.compat.migration.mode_history import ModeHistory, last_bytes, sync_folder
from meshfold.compat.migration.mode_json import decode_modes, encode_modes
from meshfold.compat.migration.modes import Change, Modes
from meshfold.model.errors import InvalidConfig, InvalidQuery, NotDurable

_log = logging.getLogger(__name__)

# A change waits so long for the lock that another process holds.
LOCK_S = 0.5
_LOCK_POLL_S = 0.01
# More than the longest names and reasons of as many surfaces and changes as there may be.
_MOST_BYTES = 8 << 20


class ModeStore(Protocol):
    """Modes that servers share."""

    @property
    def name(self) -> str:
        """For messages."""

    def read(self) -> Modes | None:
        """What is kept; None where nothing is. Raises InvalidConfig where it cannot be read."""

    def change(self, change: Callable[[Modes | None], Modes]) -> Modes:
        """What the change makes of what is kept, durably in its place; others wait meanwhile.

        Raises NotDurable, InvalidConfig where what is kept cannot be read, and what the change raises.
        """

    def history(self, count: int) -> Sequence[Change]:
        """The latest changes, newest first, older ones than modes carry included. Raises InvalidConfig."""


class ModeFile:
    """Modes in a JSON file, which appears by one rename after everything was synced.

    Servers may share it: whoever writes holds a lock (flock) on FILE.lock. Every change is also appended to
    FILE.history.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock_path = path.with_name(path.name + ".lock")
        self._history = ModeHistory(path.with_name(path.name + ".history"))
        self._content: bytes | None = None
        # Of that content.
        self._modes: Modes | InvalidConfig | None = None

    @property
    def name(self) -> str:
        return str(self._path)

    def read(self) -> Modes | None:
        """The same object as before where the file has the same bytes. For one thread at a time."""
        content = self._bytes()
        if content != self._content:
            self._content = content
            self._modes = None if content is None else self._decoded(content)
        if isinstance(self._modes, InvalidConfig):
            raise self._modes
        return self._modes

    def change(self, change: Callable[[Modes | None], Modes]) -> Modes:
        try:
            with self._lock():
                modes = change(self.read())
                self._write(json.dumps(encode_modes(modes), indent=1, ensure_ascii=False))
                self._append(modes)
        except OSError as error:
            raise NotDurable(f"the modes cannot be written to {self._path}: {error.strerror}") from None
        return modes

    def history(self, count: int) -> Sequence[Change]:
        try:
            return self._history.latest(count)
        except OSError as error:
            raise InvalidConfig(f"{self._path}.history cannot be read: {error.strerror}") from None

    def _bytes(self) -> bytes | None:
        """The whole content: times of files have steps of milliseconds and stay behind on network file systems,
        where opening a file shows what is there."""
        try:
            content = last_bytes(self._path, _MOST_BYTES + 1)
        except OSError as error:
            raise InvalidConfig(f"the modes in {self._path} cannot be read: {error.strerror}") from None
        if content is not None and len(content) > _MOST_BYTES:
            raise self._no_modes(f"it is longer than {_MOST_BYTES} bytes")
        return content

    def _decoded(self, content: bytes) -> Modes | InvalidConfig:
        try:
            return decode_modes(json.loads(content.decode()))
        except RecursionError:
            return self._no_modes("it is nested too deeply")
        except (ValueError, InvalidQuery) as error:
            return self._no_modes(str(error))

    def _no_modes(self, reason: str) -> InvalidConfig:
        return InvalidConfig(
            f"{self._path} holds no modes: {reason}; put back a copy, or remove it to begin with the mesh answering"
        )

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

    def _write(self, text: str) -> None:
        new = self._path.with_name(self._path.name + ".new")
        with new.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        sync_folder(self._path.parent)

    def _append(self, modes: Modes) -> None:
        """What cannot be logged now is logged with the next change: a switch does not wait for it."""
        try:
            self._history.append(modes)
        except OSError as error:
            _log.warning("the change of modes is kept, but not in %s.history: %s", self._path, error.strerror)
