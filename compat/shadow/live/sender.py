"""A thread that hands pairs to the comparing process, keeps that process running, and counts what was lost."""

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
# After the process ended by itself, doubled each time; at once again after one that ran for so long.
FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0
# A process that reports every second and is silent for so long hangs. Loading a large snapshot takes a while.
_SILENCE_S = 120.0
# Of a stop, for the last pairs, however little the server's grace has left.
_LEAST_GRACE_S = 1.0


class Sender:
    """Between a bounded queue and the process. tallies: by surface, of all runs of the process."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        queue: BoundedQueue[AskedPair],
        told: Callable[[str, Tally, Mapping[str, Any]], None] = lambda surface, tally, more: None,
    ) -> None:
        """told: gets a surface's tally after each report, and what the report added, on a thread of its own."""
        self._settings = settings
        self.queue = queue
        self._told = told
        # Numbers of calls are those of this server only.
        self._server = secrets.randbits(32) << 32
        self._lock = threading.Lock()
        self._process: WorkerProcess | None = None
        # Of this run of the process: pairs that it was sent, and those whose end it told.
        self._sent = self._ended = 0
        self._pause_s = FIRST_PAUSE_S
        self._started_s = float("-inf")
        self._stopping = threading.Event()
        self._end_s = float("inf")
        self.tallies: dict[str, Tally] = {}
        self.written = 0
        # By reason, pairs that are in no file though the process was sent them.
        self.lost: Counter[str] = Counter()
        self.starts = 0
        self._thread = threading.Thread(target=self._work, name="meshfold-comparison", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        """Hands over what waits and has it written, within the grace; the rest is counted as lost."""
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
        """Of the process; None while there is none."""
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
            except Exception as error:  # one pair is lost for it, not the comparison
                _log.error("a pair could not be compared: %s: %s", type(error).__qualname__, error)
        self.queue.clear()
        if self._process is not None:
            # Nothing is lost of one that has told the end of all that it was sent.
            left_s = self._end_s - time.monotonic() if self._sent > self._ended else 0.0
            self._process.end(left_s)
            self._count_lost("stop")

    def _goes_on(self) -> bool:
        return time.monotonic() < self._end_s

    def _living(self) -> WorkerProcess | None:
        """The process, started where there is none; None where it is not time for that yet."""
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
        # A process that takes nothing is seen at the next look.
        process.write(
            frames(pair, self._server),
            lambda: self._goes_on() and time.monotonic() - process.heard_s < _SILENCE_S,
        )

    def _count_lost(self, reason: str) -> int:
        """Counts what the process was sent and said nothing of."""
        with self._lock:
            lost = self._sent - self._ended
            self._sent = self._ended = 0
            if lost > 0:
                self.lost[reason] += lost
        return max(lost, 0)

    def _report(self, told: Mapping[str, Any]) -> None:
        """On the reading thread."""
        if "error" in told:
            _log.error("comparing: %s", told["error"])
            return
        with self._lock:
            self.written += told["written"]
            self.lost.update(told["failed"])
            self._ended += told["written"] + sum(told["failed"].values())
            for surface, more in told["surfaces"].items():
                self.tallies.setdefault(surface, Tally()).add(more)
        for surface, more in told["surfaces"].items():
            self._told(surface, self.tallies[surface], more)
