"""The comparing process as its parent sees it: started, fed, listened to, ended."""

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
# Between looks whether a full pipe is still to be waited for.
_LOOK_S = 0.2


class WorkerProcess:
    """One run of the process. One thread feeds it; another of its own reads what it reports."""

    def __init__(self, settings: Mapping[str, Any], told: Callable[[Mapping[str, Any]], None]) -> None:
        """settings: are sent as JSON. told: gets each report, on the reading thread.

        Raises OSError where no process can be started.
        """
        self._told = told
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
        """In words."""
        code = self._process.poll()
        return f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"

    def write(self, frames: bytes, goes_on: Callable[[], bool]) -> bool:
        """Whether it took them whole. Where not (it ended, or waiting no longer goes on), it can take no more."""
        left = memoryview(self._first + frames)
        self._first = b""
        while left:
            try:
                left = left[os.write(self._pipe, left) :]
            except BlockingIOError:
                if self.ended or not goes_on():
                    return False
                select.select([], [self._pipe], [], _LOOK_S)
            except OSError:  # nobody reads any more
                return False
        return True

    def end(self, grace_s: float) -> None:
        """Lets it take what it was sent, write it and end by itself, for as long as the grace; then kills it."""
        self._close_pipe()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, grace_s))
        self.kill()

    def kill(self) -> None:
        self._close_pipe()
        self._process.kill()
        # One that hangs in the file system outlasts even that, and is left to it.
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
                    self._told(json.loads(line))
