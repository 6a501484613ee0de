"""Users in a Parquet file that is looked at while the server runs: a replaced file is loaded, then swapped in."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from meshfold.compat.hydration.file_table import FileTable, stamp_of
from meshfold.compat.hydration.settings import Settings
from meshfold.model.errors import InvalidConfig, InvalidData
from meshfold.model.types import User
from meshfold.service.front import Sample

_log = logging.getLogger(__name__)


class UserFile:
    """A Source. Until a new file is loaded whole, and where it cannot be, the old one answers."""

    def __init__(self, settings: Settings) -> None:
        """Loads the file. Raises InvalidConfig."""
        self._settings = settings
        self._path = Path(settings.file)
        try:
            self._table = self._load()
        except (InvalidData, OSError) as error:
            raise InvalidConfig(f"the users of hydration are not loaded: {_said(error)}") from None
        self._loaded_s = time.time()
        self._seen = self._table.stamp
        self._failures = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="meshfold-hydration", daemon=True)

    async def user(self, user_id: int | str) -> User | None:
        return self._table.user(user_id)

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        # A file that is being loaded is not waited for.
        self._over.set()

    def samples(self, surface: str) -> Iterable[Sample]:
        labels = {"surface": surface}
        yield Sample("meshfold_hydration_users", "Users in the file.", len(self._table), labels)
        meaning = "When the file was loaded, in seconds since 1970."
        yield Sample("meshfold_hydration_loaded_seconds", meaning, self._loaded_s, labels)
        meaning = "Replaced files that could not be loaded."
        yield Sample("meshfold_hydration_load_failures", meaning, self._failures, labels, counts=True)

    def _load(self) -> FileTable:
        folder = Path(self._settings.folder) if self._settings.folder else None
        return FileTable(self._path, self._settings.takes, folder)

    def _watch(self) -> None:
        last = self._seen
        while not self._over.wait(self._settings.poll_interval_s):
            try:
                stamp = stamp_of(os.stat(self._path))
            except OSError:
                # Between two files, say. What was loaded stays.
                continue
            # One that is still written is waited for: it looks the same twice.
            is_settled, last = stamp == last, stamp
            if stamp == self._seen or not is_settled:
                continue
            self._seen = stamp
            try:
                table = self._load()
            except Exception as error:  # whatever a half-written file does to a reader
                self._failures += 1
                _log.error("users stay as they are: %s", _said(error))
                continue
            self._seen = last = table.stamp
            self._table, self._loaded_s = table, time.time()
            _log.info("users loaded: file=%s users=%d", self._path, len(table))


def _said(error: Exception) -> str:
    if isinstance(error, InvalidData):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the file'}: {error.strerror}"
    return type(error).__name__
