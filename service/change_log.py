"""An append-only log of changes: JSON lines, oldest first, numbered by generation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meshfold.service.state_file import append_lines, last_bytes

# Bytes after which a file is closed and a new one begun. One closed file is kept.
FILE_BYTES = 64 << 20
# Bytes read from the end of a file to find its last line; doubled where that line is longer.
_TAIL_BYTES = 64 << 10


class ChangeLog:
    """One line per change: {"generation": N, ...}. Reading skips a line that a killed writer left incomplete.

    A writer holds the lock of the state file.
    """

    def __init__(self, path: Path, file_bytes: int = FILE_BYTES) -> None:
        self._path = path
        self._earlier = path.with_name(path.name + ".1")
        self._file_bytes = file_bytes

    def append(self, generation: int, change: Mapping[str, Any]) -> None:
        """Appends a change durably. Raises OSError."""
        line = json.dumps({"generation": generation, **change}, ensure_ascii=False) + "\n"
        if self._path.exists() and self._path.stat().st_size + len(line) > self._file_bytes:
            self._path.replace(self._earlier)
        append_lines(self._path, line.encode())

    def last_generation(self) -> int:
        """Generation of the latest change in the log; 0 where it is empty. Raises OSError."""
        found = self.latest(1)
        return int(found[0]["generation"]) if found else 0

    def latest(self, count: int) -> Sequence[Mapping[str, Any]]:
        """The latest changes, newest first. Raises OSError."""
        tail = _TAIL_BYTES
        while True:
            later = last_bytes(self._path, tail) or b""
            earlier = last_bytes(self._earlier, tail - len(later)) or b""
            found = _changes(earlier) + _changes(later)
            # Fewer bytes than requested mean that both files were read whole.
            if len(found) >= count or len(later) + len(earlier) < tail:
                return found[-count:][::-1]
            tail *= 4


def _changes(lines: bytes) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for line in lines.split(b"\n"):
        try:
            change = json.loads(line)
        except (ValueError, RecursionError):  # incomplete line, or one that begins before the tail
            continue
        if isinstance(change, dict) and type(change.get("generation")) is int:
            found.append(change)
    return found
