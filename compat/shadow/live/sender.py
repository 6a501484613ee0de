"""A thread that sends pairs to the comparing process, restarts that process, and counts lost pairs."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from meshfold.compat.migration.bounded_queue import BoundedQueue
from meshfold.compat.shadow.live.asked_pair import AskedPair, frames
from meshfold.compat.shadow.live.tally import Tally
from meshfold.compat.shadow.live.worker_process import WorkerProcess

_log = logging.getLogger(__name__)

_LOOK_S = 0.2
# Seconds until the process is restarted, doubled each time up to the longest; a run of the longest resets it.
FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0
# Seconds without a report after which the process counts as hung; loading a large snapshot takes a while.
_SILENCE_S = 120.0
# Fewest seconds that a stop waits for the last pairs, even beyond the server's grace.
_LEAST_GRACE_S = 1.0


class Sender:
    """Sends pairs from a bounded queue to the process. tallies: by surface, over all runs of the process."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        queue: BoundedQueue[AskedPair],
        on_report: Callable[[str, Tally, Mapping[str, Any]], None] = lambda surface, tally, more: None,
    ) -> None:
        """on_report: called after each report with a surface, its tally and the report's addition, on its own
        thread."""
        self._settings = settings
        self.queue = queue
        self._on_report = on_report
        # Added to call numbers, which are unique only within this server.
        self._server = secrets.randbits(32) << 32
        self._lock = threading.Lock()
        self._process: WorkerProcess | None = None
        # Pairs sent to this run of the process, and pairs that it reported as done.
        self._sent = self._ended = 0
        self._pause_s = FIRST_PAUSE_S
        self._started_s = float("-inf")
        self._stopping = threading.Event()
        self._end_s = float("inf")
        self.tallies: dict[str, Tally] = {}
        self.written = 0
        # Pairs that were sent to the process but are in no file, by reason.
        self.lost: Counter[str] = Counter()
        self.starts = 0
        self._thread = threading.Thread(target=self._work, name="meshfold-comparison", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        """Sends the waiting pairs and has them written, within the grace; counts the rest as lost."""
        self._end_s = time.monotonic() + max(grace_s, _LEAST_GRACE_S)
        self.queue.close()
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def running(self) -> bool:
        process = self._process
        return process is not None and not process.ended

    @property
    def pid(self) -> int | None:
        """The process's id; None while there is none."""
        process = self._process
        return process.pid if process is not None else None

    def _work(self) -> None:
        while not self.queue.over and self._goes_on():
            try:
                process = self._living()
                pair = self.queue.take(_LOOK_S) if process is not None else None
                if process is not None and pair is not None:
                    self._send(process, pair)
                del pair
            except Exception as error:  # an error costs one pair, not the comparison
                _log.error("a pair could not be compared: %s: %s", type(error).__qualname__, error)
        self.queue.clear()
        if self._process is not None:
            # A process that has reported all pairs as done needs no grace.
            left_s = self._end_s - time.monotonic() if self._sent > self._ended else 0.0
            self._process.end(left_s)
            self._count_lost("stop")

    def _goes_on(self) -> bool:
        return time.monotonic() < self._end_s

    def _living(self) -> WorkerProcess | None:
        """The process, started if there is none; None while its restart has to wait."""
        process = self._process
        if process is not None and not process.ended and time.monotonic() - process.heard_s < _SILENCE_S:
            return process
        if process is not None:
            hung = not process.ended
            process.kill()
            how = "it was silent and was ended" if hung else f"it ended with {process.how_it_ended}"
            self._process = None
            lost = self._count_lost("process")
            if time.monotonic() - self._started_s > _LONGEST_PAUSE_S:
                self._pause_s = FIRST_PAUSE_S
            _log.error(
                "the comparing process is started again in %.3g s: %s; pairs lost: %d",
                self._pause_s,
                how,
                lost,
            )
            self._started_s = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        if self._stopping.is_set():
            self.queue.clear()
            return None
        if time.monotonic() < self._started_s:
            self._stopping.wait(_LOOK_S)
            return None
        self._started_s = time.monotonic()
        self.starts += 1
        self._process = WorkerProcess(self._settings, self._report)
        return self._process

    def _send(self, process: WorkerProcess, pair: AskedPair) -> None:
        with self._lock:
            self._sent += 1
        # The next check notices a process that does not read.
        process.write(
            frames(pair, self._server),
            lambda: self._goes_on() and time.monotonic() - process.heard_s < _SILENCE_S,
        )

    def _count_lost(self, reason: str) -> int:
        """Counts pairs that were sent but not reported as done; returns their number."""
        with self._lock:
            lost = self._sent - self._ended
            self._sent = self._ended = 0
            if lost > 0:
                self.lost[reason] += lost
        return max(lost, 0)

    def _report(self, report: Mapping[str, Any]) -> None:
        """Handles a report. Runs on the reading thread."""
        if "error" in report:
            _log.error("comparing: %s", report["error"])
            return
        with self._lock:
            self.written += report["written"]
            self.lost.update(report["failed"])
            self._ended += report["written"] + sum(report["failed"].values())
            for surface, more in report["surfaces"].items():
                self.tallies.setdefault(surface, Tally()).add(more)
        for surface, more in report["surfaces"].items():
            self._on_report(surface, self.tallies[surface], more)
