"""The times at which a snapshot that could not be loaded is tried again."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from meshfold.model.store import FolderState

# Seconds until the next try, doubled with every failure. TRANSIENT_S: after an error that may pass by itself, such as
# too many open files or a missing file. REFUSED_S: after wrong bytes, which were found by reading the whole snapshot.
TRANSIENT_S, REFUSED_S = 1.0, 60.0
MOST_S = 900.0
# Seconds without a change after which a changed folder is tried again.
QUIET_S = 1.0


@dataclass
class _Failure:
    """The failures of a folder. tried: its state at the last try. seen: its latest state, unchanged since seen_s."""

    tried: FolderState
    seen: FolderState
    seen_s: float
    failures: int
    next_s: float
    message: str


class Retries:
    """The failures of each folder.

    A folder that changed since its failure is tried again once it has not changed for QUIET_S, so that a growing folder
    is not read again and again. An unchanged folder is tried after TRANSIENT_S or REFUSED_S, doubled with every
    failure.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: dict[Path, _Failure] = {}

    @property
    def failing(self) -> int:
        return len(self._failures)

    def keep(self, folders: Collection[Path]) -> None:
        """Forgets all folders but these."""
        self._failures = {folder: failure for folder, failure in self._failures.items() if folder in folders}

    def failures(self, folder: Path) -> int:
        """The number of consecutive failures of a folder."""
        failure = self._failures.get(folder)
        return 0 if failure is None else failure.failures

    def message(self, folder: Path) -> str:
        """The error of the folder's last try; "" where it did not fail."""
        failure = self._failures.get(folder)
        return "" if failure is None else failure.message

    def due(self, folder: Path, state: FolderState) -> bool:
        """Whether to try the folder now. state: its present state."""
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
        """Records a failure; returns whether its error is new. state: the folder's state before the try."""
        before = self._failures.get(folder)
        again = before is not None and before.tried == state
        failures = before.failures + 1 if before is not None and again else 1
        passes = any(isinstance(cause, OSError | MemoryError) for cause in (error, error.__cause__))
        now_s = self._clock()
        wait_s = min((TRANSIENT_S if passes else REFUSED_S) * 2 ** min(failures - 1, 30), MOST_S)
        message = f"{type(error).__name__}: {error}"
        self._failures[folder] = _Failure(state, state, now_s, failures, now_s + wait_s, message)
        return before is None or before.message != message
