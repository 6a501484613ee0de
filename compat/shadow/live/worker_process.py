"""The server's handle of the comparing process: starts it, sends pairs, reads reports, ends it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from meshfold.compat.low_priority import ONE_THREAD

_MODULE = "meshfold.compat.shadow.live"
_MOST_LINE_BYTES = 1 << 20
# Seconds between checks of whether to go on waiting for a full pipe.
_LOOK_S = 0.2


class WorkerProcess:
    """One run of the process. One thread writes to it; another reads its reports."""

    def __init__(self, settings: Mapping[str, Any], on_report: Callable[[Mapping[str, Any]], None]) -> None:
        """settings: sent as JSON. on_report: called with each report, on the reading thread.

        Raises OSError where no process can be started.
        """
        self._on_report = on_report
        self.heard_s = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **ONE_THREAD},
            bufsize=0,
        )
        assert self._process.stdin is not None
        self._pipe = self._process.stdin.fileno()
        os.set_blocking(self._pipe, False)
        self._reader = threading.Thread(target=self._read, name="meshfold-comparison-reports", daemon=True)
        self._reader.start()
        self._first = json.dumps(settings).encode() + b"\n"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def how_it_ended(self) -> str:
        """How the process ended, in words."""
        code = self._process.poll()
        return f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"

    def write(self, frames: bytes, goes_on: Callable[[], bool]) -> bool:
        """Writes frames; returns whether they were written whole. Otherwise the process ended, or goes_on() returned
        False, and nothing more can be written."""
        left = memoryview(self._first + frames)
        self._first = b""
        while left:
            try:
                left = left[os.write(self._pipe, left) :]
            except BlockingIOError:
                if self.ended or not goes_on():
                    return False
                select.select([], [self._pipe], [], _LOOK_S)
            except OSError:  # the process reads no more
                return False
        return True

    def end(self, grace_s: float) -> None:
        """Lets the process handle what it was sent and end by itself, within the grace; then kills it."""
        self._close_pipe()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, grace_s))
        self.kill()

    def kill(self) -> None:
        self._close_pipe()
        self._process.kill()
        # A process that hangs in a file system cannot be killed, and is left alone.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
            self._reader.join(1.0)

    def _close_pipe(self) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as reports, os.fdopen(os.dup(reports.fileno()), "rb") as lines:
            while line := lines.readline(_MOST_LINE_BYTES):
                self.heard_s = time.monotonic()
                with suppress(ValueError):
                    self._on_report(json.loads(line))
