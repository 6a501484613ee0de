"""Lists the files of a folder by age, and deletes the oldest."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path


def aged_files(folder: Path, pattern: str) -> Sequence[tuple[Path, int, float]]:
    """Path, bytes and time of the last change (seconds since 1970) of each matching file, oldest first.

    pattern: glob of file names that sort by age. Raises OSError.
    """
    found = []
    for path in sorted(folder.glob(pattern)):
        try:
            status = path.stat()
        except FileNotFoundError:  # deleted meanwhile
            continue
        found.append((path, status.st_size, status.st_mtime))
    return found


def remove_oldest(
    files: Sequence[tuple[Path, int, float]], most_bytes: int, age_s: float, room_bytes: int = 0
) -> None:
    """Deletes files until room_bytes are free of most_bytes and none is older than age_s. files: from aged_files.
    Raises OSError."""
    total = sum(size for _, size, _ in files)
    oldest_s = time.time() - age_s
    for path, size, changed_s in files:
        if total + room_bytes <= most_bytes and changed_s >= oldest_s:
            break
        path.unlink(missing_ok=True)
        total -= size
