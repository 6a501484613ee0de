"""An append-only log of changes: JSON lines, oldest first, numbered by generation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meshfold.service.state_file import append_lines, last_bytes

# Of a file, after which another begins. The one before it stays, earlier ones go.
FILE_BYTES = 64 << 20
# Read back at first to find the last line; more where that is longer.
_TAIL_BYTES = 64 << 10


class ChangeLog:
    """A line a change: {"generation": N, ...}. A line that a kill cut off is passed over.

    A writer holds the lock of the state file.
    """

    def __init__(self, path: Path, file_bytes: int = FILE_BYTES) -> None:
        self._path = path
        self._earlier = path.with_name(path.name + ".1")
        self._file_bytes = file_bytes

    def append(self, generation: int, change: Mapping[str, Any]) -> None:
        """Durably. Raises OSError."""
        line = json.dumps({"generation": generation, **change}, ensure_ascii=False) + "\n"
        if self._path.exists() and self._path.stat().st_size + len(line) > self._file_bytes:
            self._path.replace(self._earlier)
        append_lines(self._path, line.encode())

    def last_generation(self) -> int:
        """Of the latest change that the log holds; 0 where it holds none. Raises OSError."""
        found = self.latest(1)
        return int(found[0]["generation"]) if found else 0

    def latest(self, count: int) -> Sequence[Mapping[str, Any]]:
        """Newest first. Raises OSError."""
        tail = _TAIL_BYTES
        while True:
            later = last_bytes(self._path, tail) or b""
            earlier = last_bytes(self._earlier, tail - len(later)) or b""
            found = _changes(earlier) + _changes(later)
            # Where less came than was asked for, both files were read whole.
            if len(found) >= count or len(later) + len(earlier) < tail:
                return found[-count:][::-1]
            tail *= 4


def _changes(lines: bytes) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for line in lines.split(b"\n"):
        try:
            change = json.loads(line)
        except (ValueError, RecursionError):  # cut off, or begun before the tail
            continue
        if isinstance(change, dict) and type(change.get("generation")) is int:
            found.append(change)
    return found
