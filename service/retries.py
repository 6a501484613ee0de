"""When a snapshot that could not be loaded is tried again."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from meshfold.model.store import FolderState

# After what passes by itself, such as too many open files, or a file that is not there yet; and after bytes that were
# read and are wrong, which costs reading them all. Doubled with every failure.
TRANSIENT_S, REFUSED_S = 1.0, 60.0
MOST_S = 900.0
# A folder that was written to is tried once it has been left alone for so long.
QUIET_S = 1.0


@dataclass
class _Failure:
    """tried: the folder as it was when it was tried. seen: as it was when it was last looked at, since seen_s."""

    tried: FolderState
    seen: FolderState
    seen_s: float
    failures: int
    next_s: float
    message: str


class Retries:
    """Remembers failures by folder.

    A folder that has changed since is tried once it has not changed for QUIET_S, so that one that grows is not read
    again and again. One that has not changed is tried after a while that doubles.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: dict[Path, _Failure] = {}

    @property
    def failing(self) -> int:
        return len(self._failures)

    def keep(self, folders: Collection[Path]) -> None:
        """Forgets all others."""
        self._failures = {folder: failure for folder, failure in self._failures.items() if folder in folders}

    def failures(self, folder: Path) -> int:
        """In a row, of the folder as it was last tried."""
        failure = self._failures.get(folder)
        return 0 if failure is None else failure.failures

    def message(self, folder: Path) -> str:
        """What the folder failed with when it was last tried; "" where it did not."""
        failure = self._failures.get(folder)
        return "" if failure is None else failure.message

    def due(self, folder: Path, state: FolderState) -> bool:
        """Whether it is to be tried now. state: as it is now."""
        failure = self._failures.get(folder)
        if failure is None:
            return True
        now_s = self._clock()
        if state != failure.seen:
            failure.seen, failure.seen_s = state, now_s
        if state != failure.tried:
            return now_s - failure.seen_s >= QUIET_S
        return now_s >= failure.next_s

    def failed(self, folder: Path, state: FolderState, error: Exception) -> bool:
        """state: before it was tried. Returns whether this is news, for it did not fail like that before."""
        before = self._failures.get(folder)
        again = before is not None and before.tried == state
        failures = before.failures + 1 if before is not None and again else 1
        passes = any(isinstance(cause, OSError | MemoryError) for cause in (error, error.__cause__))
        now_s = self._clock()
        wait_s = min((TRANSIENT_S if passes else REFUSED_S) * 2 ** min(failures - 1, 30), MOST_S)
        message = f"{type(error).__name__}: {error}"
        self._failures[folder] = _Failure(state, state, now_s, failures, now_s + wait_s, message)
        return before is None or before.message != message
