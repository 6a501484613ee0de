"""Counts of dropped pairs, in files beside the pairs, so that a report of the folder includes them.

_drops-*.json, one for each run of a server: {"since_unix_ms": 0, "dropped": {"rate": 12}}. Readers of pairs skip names
that begin with an underscore.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from meshfold.service.state_file import last_bytes

_log = logging.getLogger(__name__)

_PREFIX, _SUFFIX = "_drops-", ".json"
_EVERY_S = 10.0
_MOST_BYTES = 1 << 16

# Words for each reason of a drop, to follow "pairs".
REASONS = {
    "rate": "over comparison.pairs_per_s",
    "queue": "without room in the queue",
    "process": "lost when the comparing process ended",
    "stop": "not written before a stop",
    "undecodable": "with answers that do not decode",
    "error": "that failed, as the server's log tells",
    "folder": "not written to the folder",
}


class DropFile:
    """The drops of one run of a server, from start() to stop(). Written every 10 s, so that a kill loses at most
    those."""

    def __init__(self, folder: Path, age_s: float, dropped: Callable[[], Mapping[str, int]]) -> None:
        """age_s: seconds after which files of ended runs are deleted. dropped: returns the counts by reason."""
        self._path = folder / f"{_PREFIX}{time.time_ns() // 1_000_000}-{secrets.token_hex(4)}{_SUFFIX}"
        self._age_s = age_s
        self._dropped = dropped
        self._since_ms = time.time_ns() // 1_000_000
        self._written: Mapping[str, int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="meshfold-drops", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._write()

    def _work(self) -> None:
        self._expire()
        while not self._stopping.wait(_EVERY_S):
            self._write()

    def _write(self) -> None:
        dropped = {reason: pairs for reason, pairs in self._dropped().items() if pairs}
        if dropped == self._written:
            return
        new = self._path.with_name(f"{self._path.name}.new")
        content = json.dumps({"since_unix_ms": self._since_ms, "dropped": dropped}).encode()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            new.replace(self._path)
            self._written = dropped
        except OSError as error:  # the next attempt may succeed
            _log.error(
                "counts of dropped pairs could not be written to %s: %s", self._path.parent, error.strerror
            )

    def _expire(self) -> None:
        oldest_s = time.time() - self._age_s
        for path in self._path.parent.glob(f"{_PREFIX}*"):
            with suppress(OSError):
                if path.stat().st_mtime < oldest_s:
                    path.unlink()


def dropped_in(folder: Path) -> Counter[str]:
    """The counts of a folder, by reason in words; empty where it is no folder. Unreadable files are skipped."""
    counted: Counter[str] = Counter()
    for path in sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}")) if folder.is_dir() else ():
        with suppress(OSError, ValueError, RecursionError):
            for reason, pairs in _dropped_of(json.loads(last_bytes(path, _MOST_BYTES) or b"{}")).items():
                counted[f"pairs that a server dropped, {REASONS.get(reason, reason)}"] += pairs
    return counted


def _dropped_of(found: Any) -> Mapping[str, int]:
    dropped = found.get("dropped") if isinstance(found, dict) else None
    entries = dropped.items() if isinstance(dropped, dict) else ()
    return {str(reason)[:100]: pairs for reason, pairs in entries if type(pairs) is int and pairs > 0}
