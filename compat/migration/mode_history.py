"""Every change of the modes, in a log beside the file that keeps them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meshfold.compat.migration.mode_json import decode_change, encode_change
from meshfold.compat.migration.modes import Change, Modes
from meshfold.model.errors import InvalidQuery
from meshfold.service.state_file import append_lines, last_bytes

# Of a file, after which another begins. The one before it stays, earlier ones go: some 40,000 usual changes in all.
FILE_BYTES = 4 << 20
# Read back to find what is logged already: at least the last change, usually hundreds.
_TAIL_BYTES = 64 << 10

_Entry = tuple[int, Change]


class ModeHistory:
    """JSON lines, oldest first: a change and its generation. A line that a kill cut off is passed over.

    Who writes holds the lock of the modes file.
    """

    def __init__(self, path: Path, file_bytes: int = FILE_BYTES) -> None:
        self._path = path
        self._earlier = path.with_name(path.name + ".1")
        self._file_bytes = file_bytes

    def append(self, modes: Modes) -> None:
        """Durably, the changes that the modes carry and the log does not hold yet.

        That is the latest change, and those of a writer that was killed or had no room after it had written the
        modes. Raises OSError.
        """
        logged = set(self._read(_TAIL_BYTES))
        missing: list[_Entry] = []
        for i, change in enumerate(modes.history):
            entry = (modes.generation - i, change)
            if entry in logged:
                break
            missing.append(entry)
        if missing:
            self._append("".join(_line(entry) for entry in reversed(missing)).encode())

    def latest(self, count: int) -> Sequence[Change]:
        """Newest first. Raises OSError."""
        entries = self._read(2 * self._file_bytes)
        return [change for _, change in reversed(entries[-count:])]

    def _append(self, lines: bytes) -> None:
        if _size(self._path) + len(lines) > self._file_bytes and self._path.exists():
            self._path.replace(self._earlier)
        append_lines(self._path, lines)

    def _read(self, most_bytes: int) -> list[_Entry]:
        """Of the last bytes of both files, oldest first."""
        later = last_bytes(self._path, most_bytes) or b""
        earlier = last_bytes(self._earlier, most_bytes - len(later)) or b""
        entries = []
        for line in (*earlier.splitlines(), *later.splitlines()):
            try:
                entries.append(_entry(json.loads(line)))
            except (ValueError, InvalidQuery, RecursionError):  # cut off, or begun before the tail
                continue
        return entries


def _line(entry: _Entry) -> str:
    generation, change = entry
    return json.dumps({"generation": generation, **encode_change(change)}, ensure_ascii=False) + "\n"


def _entry(found: Any) -> _Entry:
    """Raises ValueError, InvalidQuery."""
    if not isinstance(found, dict) or not isinstance(found.get("generation"), int):
        raise ValueError("no generation")
    generation: int = found.pop("generation")
    return generation, decode_change("change", found)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
