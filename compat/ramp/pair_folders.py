"""New pairs in the folders of the servers' comparison, file by file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from meshfold.compat.shadow.pair_files import read_pairs
from meshfold.compat.shadow.pair_writer import PREFIX, pair_files
from meshfold.compat.shadow.pairs import Pair
from meshfold.compat.shadow.skipped import Skipped
from meshfold.model.errors import InvalidData

_log = logging.getLogger(__name__)

# Largest lag of a server's clock: the time in a file's name is that of its writer.
_SKEW_MS = 60_000


class PairFolders:
    """Reads each file once. skipped: counts rows and files that could not be read."""

    def __init__(self, folders: Sequence[Path], since_unix_ms: int) -> None:
        """since_unix_ms: files written before this time hold no pair that counts."""
        self._folders = folders
        self._since_unix_ms = since_unix_ms
        self._read: set[Path] = set()
        self.skipped = Skipped()

    def new(self) -> Iterator[Sequence[Pair]]:
        """The pairs of each new file, the oldest file first."""
        there = [path for folder in self._folders for path, _, _ in pair_files(folder)]
        self._read &= set(there)
        for path in sorted(there, key=_moment):
            if path in self._read:
                continue
            self._read.add(path)
            if _moment(path)[0] < self._since_unix_ms - _SKEW_MS:
                continue
            try:
                yield list(read_pairs(path, skipped=self.skipped))
            except InvalidData as error:
                if path.exists():
                    self.skipped.add("files that cannot be read", str(path))
                    _log.warning("the pairs of a file do not count: %s", error)


def _moment(path: Path) -> tuple[int, str]:
    """The time at which a file was written, in milliseconds since 1970, and its name."""
    digits = path.name.removeprefix(PREFIX).partition("-")[0]
    return int(digits) if digits.isdigit() else 0, path.name
