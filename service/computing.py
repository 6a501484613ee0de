"""Where requests are computed: on a CPU in processes of one thread each, on a GPU by threads of the server."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from meshfold.model.progress import Progress
from meshfold.service import collector
from meshfold.service.config import ServerConfig
from meshfold.service.cores import cores
from meshfold.service.denied import Denied
from meshfold.service.fork_server import ForkServer
from meshfold.service.lane import LaneLimits
from meshfold.service.remote_runner import RemoteRunner, answer_remotely
from meshfold.service.request_sample import RequestSample
from meshfold.service.runner import Runner
from meshfold.service.scheduler import Scheduler
from meshfold.service.snapshot_process import AbandonedNumbers, Loading, SnapshotProcess
from meshfold.service.warming import warm
from meshfold.service.work import Adapter

# Of a GPU's threads: one prepares and encodes while another's pass runs.
_GPU_THREADS = 2
# Of a request that is alone.
_MOST_THREADS = 2
# Niceness of a load while callers are answered, beyond the server's own.
_LOADING_NICE = 5

# Gives what shows how far a snapshot is loaded.
ShowLoading = Callable[[], AbstractContextManager[Progress]]


class Computing(Protocol):
    """scheduler: of all requests."""

    scheduler: Scheduler

    def open(self, denied: Denied, sample: RequestSample, folder: Path, surface: str) -> Any:
        """A loaded and warmed snapshot, as Versions holds it. Raises SnapshotRefused."""

    def close(self) -> None:
        """After the last answer."""


class InProcesses:
    """As many workers for each surface as there are cores. Surfaces share the cores as the system shares them out, so
    that a request never waits for all that another surface asked for."""

    def __init__(
        self, config: ServerConfig, adapters: Sequence[Adapter[Any, Any]], show: ShowLoading
    ) -> None:
        """Forks the process that forks all others."""
        self._show = show
        self._cores = cores()
        self._runners: weakref.WeakSet[RemoteRunner] = weakref.WeakSet()
        # What is frozen now no process ever writes to, so that all of them share it.
        collector.start()
        self._abandoned = AbandonedNumbers()
        self._processes = ForkServer(SnapshotProcess(adapters, config.limits, self._abandoned).serve)
        self.scheduler = Scheduler(
            # They wait for processes.
            2 * self._cores,
            1,
            LaneLimits(config.queue_limit, config.queue_bytes, config.queue_s),
            answer=partial(answer_remotely, min(_MOST_THREADS, self._cores)),
            of_a_surface=self._cores,
        )

    def open(self, denied: Denied, sample: RequestSample, folder: Path, surface: str) -> RemoteRunner:
        is_first = _is_first()
        loading = Loading(
            folder,
            surface,
            denied.of(surface),
            [(adapter.METHOD, message) for adapter, message in sample.of(surface)],
            self._cores if is_first else 1,
            0 if is_first else _LOADING_NICE,
        )
        with self._show():
            runner = RemoteRunner(self._processes, self._abandoned, loading, partial(denied.of, surface))
        runner.start(self._cores)
        self._runners.add(runner)
        return runner

    def close(self) -> None:
        for runner in list(self._runners):
            runner.close()
        self._processes.close()


class InThreads:
    """Batches of the requests that wait, on one GPU or several."""

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
            # Of torch, this is of the calling thread alone.
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

    def close(self) -> None:
        pass


def _is_first() -> bool:
    """Whether nobody is answered yet: then a load may take all cores."""
    return threading.current_thread() is threading.main_thread()
