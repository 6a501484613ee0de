"""Where requests are computed: on a CPU by single-threaded processes, on a GPU by threads of the server."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from meshfold.model.errors import SnapshotRefused
from meshfold.model.progress import Progress
from meshfold.service import collector
from meshfold.service.config import ServerConfig
from meshfold.service.cores import cores
from meshfold.service.denied import Denied
from meshfold.service.fork_server import ForkServer
from meshfold.service.lane import LaneLimits
from meshfold.service.niceness import LOADING
from meshfold.service.remote_runner import RemoteRunner, answer_remotely
from meshfold.service.request_sample import RequestSample
from meshfold.service.runner import Runner
from meshfold.service.scheduler import Scheduler
from meshfold.service.snapshot_process import AbandonedNumbers, Loading, SnapshotProcess
from meshfold.service.warming import warm
from meshfold.service.work import Adapter

# Threads that serve a GPU: one prepares and encodes while another runs a forward pass.
_GPU_THREADS = 2
# Threads of a forward pass while no other request runs or waits; every other pass has one thread.
_LONE_REQUEST_THREADS = 2
# Latest requests of callers that each worker answers for itself before it is given any.
_WORKER_WARMING = 4

# Opens a display of how far a snapshot is loaded.
ShowLoading = Callable[[], AbstractContextManager[Progress]]


class Computing(Protocol):
    """The processes or threads that compute answers. scheduler: the queue of all requests."""

    scheduler: Scheduler

    def open(self, denied: Denied, sample: RequestSample, folder: Path, surface: str) -> Any:
        """Loads and warms a snapshot; returns the runner that Versions keeps. Raises SnapshotRefused."""

    def is_broken(self, runner: Any) -> bool:
        """Whether the runner's snapshot must be loaded again."""

    def close(self) -> None:
        """Ends the processes; called after the last answer."""


class InProcesses:
    """One worker process per core, for each surface.

    The operating system divides the cores among the surfaces, so that a request never waits for the whole queue of
    another surface.
    """

    def __init__(
        self,
        config: ServerConfig,
        adapters: Sequence[Adapter[Any, Any]],
        show: ShowLoading,
        on_end: Callable[[], None],
    ) -> None:
        """Forks the fork server, which makes all other processes. on_end: called where a snapshot cannot be loaded
        since the fork server has ended."""
        self._show, self._on_end = show, on_end
        self._cores = cores()
        self._runners: weakref.WeakSet[RemoteRunner] = weakref.WeakSet()
        # The objects frozen here are never written to, so that all processes share their memory pages.
        collector.start()
        self._abandoned = AbandonedNumbers()
        self._processes = ForkServer(SnapshotProcess(adapters, config.limits, self._abandoned).serve)
        self.scheduler = Scheduler(
            # Threads that only wait for worker processes.
            2 * self._cores,
            1,
            LaneLimits(config.queue_limit, config.queue_bytes, config.queue_s),
            answer=partial(answer_remotely, min(_LONE_REQUEST_THREADS, self._cores)),
            max_running_per_surface=self._cores,
        )

    def open(self, denied: Denied, sample: RequestSample, folder: Path, surface: str) -> RemoteRunner:
        is_first = _is_first()
        loading = Loading(
            folder,
            surface,
            denied.of(surface),
            [(adapter.METHOD, message) for adapter, message in sample.of(surface)],
            self._cores if is_first else 1,
            0 if is_first else LOADING,
        )
        try:
            with self._show():
                runner = RemoteRunner(self._processes, self._abandoned, loading, partial(denied.of, surface))
        except SnapshotRefused:
            if self._processes.has_ended:
                self._on_end()
            raise
        runner.start(self._cores, loading.requests[:_WORKER_WARMING], loading.nice)
        self._runners.add(runner)
        return runner

    def is_broken(self, runner: Any) -> bool:
        is_broken: bool = runner.is_broken
        return is_broken

    def close(self) -> None:
        for runner in list(self._runners):
            runner.close()
        self._processes.close()


class InThreads:
    """Threads of the server that run waiting requests in batches, on one GPU or several."""

    def __init__(self, config: ServerConfig, show: ShowLoading) -> None:
        self._config, self._show = config, show
        self.scheduler = Scheduler(
            _GPU_THREADS,
            config.max_batch,
            LaneLimits(config.queue_limit, config.queue_bytes, config.queue_s),
            partial(torch.set_num_threads, 1),
        )

    def open(self, denied: Denied, sample: RequestSample, folder: Path, surface: str) -> Runner:
        if not _is_first():
            # torch applies this number to the calling thread alone.
            torch.set_num_threads(1)
        config = self._config
        with self._show() as progress:
            runner = Runner.open(
                folder,
                surface,
                config.device,
                config.residuals,
                config.max_batch,
                config.cuda_graphs,
                progress,
                partial(denied.of, surface),
            )
        warm(runner, sample.of(surface), config.limits)
        return runner

    def is_broken(self, runner: Any) -> bool:
        return False

    def close(self) -> None:
        pass


def _is_first() -> bool:
    """Whether the server loads before it answers callers, when a load may use all cores."""
    return threading.current_thread() is threading.main_thread()
