"""Jobs of the page, one at a time, each in a process of its own at the lowest priority. Their results are cached."""

from __future__ import annotations

import json
import logging
import os
import resource
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from meshfold.compat.live_page.job import Found, Job
from meshfold.compat.low_priority import ONE_THREAD
from meshfold.compat.shadow.pair_files import files_of
from meshfold.model.errors import MeshfoldError

_log = logging.getLogger(__name__)

_MODULE = "meshfold.compat.live_page"
# Limits on surfaces with cached details and on surfaces that wait.
_KEPT, _WAITING = 32, 32
# A job that takes longer is killed.
_MOST_S = 900.0
# Seconds before a job without results is run again.
_NOTHING_S = 2.0
# Largest share of a core's time for jobs while the page is open.
_SHARE = 0.05


@dataclass(frozen=True)
class _Kept:
    """A cached result. spent_s: processor time. folder: state of the files that it was computed from."""

    found: Found
    done_s: float
    spent_s: float
    folder: Hashable


class Background:
    """Cached results of jobs.

    A request for an old result starts a new computation, at most every `least_s` seconds and only if files have
    changed.
    """

    def __init__(self, job: Job, least_s: float) -> None:
        """job: the template of all jobs; its surface is filled in."""
        self._job = job
        self._least_s = least_s
        self._lock = threading.Condition()
        self._kept: OrderedDict[str | None, _Kept] = OrderedDict()
        self._waiting: OrderedDict[str | None, None] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def found(self, surface: str | None) -> Found | None:
        """The latest result, without waiting; None before the first. Queues a computation if the result is old."""
        with self._lock:
            kept = self._kept.get(surface)
            if kept is not None:
                self._kept.move_to_end(surface)
            if self._is_old(kept) and len(self._waiting) < _WAITING and not self._stopping:
                self._waiting.setdefault(surface)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name="meshfold-page", daemon=True)
                    self._thread.start()
                self._lock.notify_all()
            return None if kept is None else kept.found

    def stop(self) -> None:
        with self._lock:
            self._stopping = True
            self._waiting.clear()
            if self._process is not None:
                self._process.kill()
            self._lock.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _is_old(self, kept: _Kept | None) -> bool:
        if kept is None:
            return True
        age_s = time.monotonic() - kept.done_s
        least_s = self._least_s if kept.found.is_any else _NOTHING_S
        return age_s >= max(least_s, kept.spent_s / _SHARE) and kept.folder != self._folder()

    def _folder(self) -> Hashable:
        """Changes with the files."""
        places = [Path(self._job.place), Path(self._job.place) / "pairs"]
        found = []
        for place in places:
            with suppress(OSError):
                found.append(place.stat().st_mtime_ns)
        return tuple(found)

    def _work(self) -> None:
        while True:
            with self._lock:
                while not self._waiting and not self._stopping:
                    self._lock.wait()
                if self._stopping:
                    return
                surface = next(iter(self._waiting))
            folder, begin_s = self._folder(), _spent_s()
            try:
                # A missing folder is reported without a process.
                files_of(Path(self._job.place))
                found = self._run(replace(self._job, surface=surface))
            except MeshfoldError as error:
                found = Found(f"{error}.")
            except Exception as error:  # the page goes on without it
                _log.error("details of the live page failed: %s: %s", type(error).__qualname__, error)
                found = Found(f"This could not be computed: {type(error).__qualname__}: {error}")
            spent_s = _spent_s() - begin_s
            with self._lock:
                self._kept[surface] = _Kept(found, time.monotonic(), spent_s, folder)
                self._kept.move_to_end(surface)
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
                self._waiting.pop(surface, None)

    def _run(self, job: Job) -> Found:
        with subprocess.Popen(
            [sys.executable, "-P", "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **ONE_THREAD},
        ) as process:
            with self._lock:
                self._process = process
                if self._stopping:
                    process.kill()
            try:
                told, _ = process.communicate(json.dumps(job.told()).encode(), _MOST_S)
            except subprocess.TimeoutExpired:
                process.kill()
                return Found(f"This took longer than {_MOST_S:g} s and was ended.")
            finally:
                with self._lock:
                    self._process = None
        if process.returncode:
            how = (
                f"signal {-process.returncode}" if process.returncode < 0 else f"status {process.returncode}"
            )
            return Found(f"This could not be computed: its process ended with {how}.")
        return Found.read(json.loads(told))


def _spent_s() -> float:
    """Processor time of all ended child processes, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
