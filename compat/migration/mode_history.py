"""The history of the modes, a log beside their file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meshfold.compat.migration.mode_json import decode_change, encode_change
from meshfold.compat.migration.modes import Change, Modes
from meshfold.model.errors import InvalidQuery
from meshfold.service.state_file import append_lines, last_bytes

# Bytes after which a file is closed and a new one begun. One closed file is kept; some 40,000 usual changes in all.
FILE_BYTES = 4 << 20
# Bytes read back to find the changes that are logged already: at least the last, usually hundreds.
_TAIL_BYTES = 64 << 10

_Entry = tuple[int, Change]


class ModeHistory:
    """JSON lines, oldest first: a change and its generation. Reading skips incomplete lines of a killed writer.

    A writer must have the lock of the modes file.
    """

    def __init__(self, path: Path, file_bytes: int = FILE_BYTES) -> None:
        self._path = path
        self._earlier = path.with_name(path.name + ".1")
        self._file_bytes = file_bytes

    def append(self, modes: Modes) -> None:
        """Appends durably the changes in the modes that the log lacks.

        These are the latest change, and changes of a writer that was killed or had no space left after it wrote the
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
        """The latest changes, newest first. Raises OSError."""
        entries = self._read(2 * self._file_bytes)
        return [change for _, change in reversed(entries[-count:])]

    def _append(self, lines: bytes) -> None:
        if _size(self._path) + len(lines) > self._file_bytes and self._path.exists():
            self._path.replace(self._earlier)
        append_lines(self._path, lines)

    def _read(self, most_bytes: int) -> list[_Entry]:
        """The entries in the last `most_bytes` of the two files together, oldest first."""
        later = last_bytes(self._path, most_bytes) or b""
        earlier = last_bytes(self._earlier, most_bytes - len(later)) or b""
        entries = []
        for line in (*earlier.splitlines(), *later.splitlines()):
            try:
                entries.append(_entry(json.loads(line)))
            except (
                ValueError,
                InvalidQuery,
                RecursionError,
            ):  # incomplete line, or one that begins before the tail
                continue
        return entries


def _line(entry: _Entry) -> str:
    generation, change = entry
    return json.dumps({"generation": generation, **encode_change(change)}, ensure_ascii=False) + "\n"


def _entry(found: Any) -> _Entry:
    """The entry of decoded JSON. Raises ValueError, InvalidQuery."""
    if not isinstance(found, dict) or not isinstance(found.get("generation"), int):
        raise ValueError("no generation")
    generation: int = found.pop("generation")
    return generation, decode_change("change", found)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
