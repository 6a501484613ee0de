"""Users from a Parquet file, which is loaded again and swapped in when it is replaced."""

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
    """A Source from a file. The old file answers until a new one is loaded, and where that fails."""

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
        # Does not wait for a running load.
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
                # The file may be missing during a replacement; the loaded users stay.
                continue
            # A file is loaded once two checks in a row find it unchanged, so that it is no longer written.
            is_settled, last = stamp == last, stamp
            if stamp == self._seen or not is_settled:
                continue
            self._seen = stamp
            try:
                table = self._load()
            except Exception as error:  # a half-written file may raise any error
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
