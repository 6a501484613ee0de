"""The gRPC server around one store of snapshots."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from meshfold.kernels.tuning import Tuning, read_tuning, use
from meshfold.model.errors import InvalidConfig, MeshfoldError
from meshfold.model.limits import Limits
from meshfold.model.progress import Progress, silent
from meshfold.model.store import Store
from meshfold.service import collector, discovery
from meshfold.service.call import Answer
from meshfold.service.config import ServerConfig
from meshfold.service.devices import devices_of
from meshfold.service.event_loop import EventLoop
from meshfold.service.handlers import Adapter, Handler
from meshfold.service.intake import Intake, IntakeLimits, Operators, signed, split_method
from meshfold.service.lane import LaneLimits
from meshfold.service.migration import ConnectFront, Front, Sample
from meshfold.service.ports import NO_ADDRESS, PortLimits, listening, operators_address, stop
from meshfold.service.runner import Runner
from meshfold.service.scheduler import Scheduler
from meshfold.service.versions import Versions

if TYPE_CHECKING:
    from meshfold.service.metrics import Metrics

_log = logging.getLogger(__name__)

# How long a thread may keep Python's lock from another that wants it. A forward pass takes the lock some hundred times:
# at Python's own 5 ms a busy background thread doubles its time.
_SWITCH_S = 0.0005
# Without calls for so long, a server that is to stop has none on their way.
_QUIET_S = 0.1

MakeAnswer = Callable[[Adapter[Any, Any], Versions, Scheduler, Limits], Answer]


class Server:
    """Listens from the moment it is made; answers from start() to stop()."""

    def __init__(
        self,
        config: ServerConfig,
        adapters: Sequence[Adapter[Any, Any]],
        connect_front: ConnectFront | None = None,
        *,
        open_runner: Callable[[Path, str], Any] | None = None,
        handler: MakeAnswer = Handler,
        surface: str = "",
        workers: int = 0,
        loading: Callable[[], AbstractContextManager[Progress]] = lambda: nullcontext(silent),
    ) -> None:
        """connect_front: what stands in front of the mesh that the settings name. open_runner: (folder, surface) ->
        what answers; None for the whole model. handler: makes the answers of an adapter. surface: the only one to
        serve; "" for all of the store. workers: threads that compute, with torch's threads as they are; 0 for those of
        the settings. loading: gives what shows how far a snapshot is loaded.

        Raises InvalidConfig where an address cannot be listened on, the device is not here, or a file that settings
        name cannot be read.
        """
        self._config = config
        devices = devices_of(config.device)
        if config.tuning:
            use(_tuning(Path(config.tuning)))
        self._services = [split_method(adapter.METHOD)[0] for adapter in adapters]
        count, threads = (workers, torch.get_num_threads()) if workers else threads_of(config, devices)
        self._scheduler = Scheduler(
            count,
            config.max_batch or (1 if devices[0].type == "cpu" else _BATCH_ON_A_GPU),
            LaneLimits(config.queue_limit, config.queue_bytes, config.queue_s),
            partial(torch.set_num_threads, threads),
        )
        self._versions = Versions(
            Store(config.store, only=surface),
            open_runner or partial(_open_runner, config, loading),
            config.poll_interval_s,
            self._changed,
        )
        self._loop = EventLoop("meshfold-loop")
        self._metrics: Metrics | None = None
        self._front: Front | None = None
        self.address = self.admin_address = self.metrics_address = ""
        self._servers: list[Any] = []
        self._ends: list[asyncio.Task[None]] = []
        limits = IntakeLimits(
            config.timeout_s,
            config.queue_bytes,
            config.unread_bytes,
            config.migration.passed_calls,
            config.migration.passed_idle_s,
        )
        # What callers hold of the server is nothing that operators wait for.
        self._intake, self._own_intake = Intake(limits), Intake(limits)
        self._operators = Operators()
        self._health: discovery.Health | None = None
        self._started = self._ended = False
        self._swaps = 0
        try:
            if config.metrics_address:
                self._metrics = self._own_metrics()
                self.metrics_address = self._metrics.listen(config.metrics_address)
            answers: dict[str, Answer] = {
                adapter.METHOD: handler(adapter, self._versions, self._scheduler, config.limits)
                for adapter in adapters
            }
            if config.mesh and connect_front is not None:
                observers = () if self._metrics is None else (self._metrics,)
                self._front = connect_front(config, answers, lambda: self._versions.runners, observers)
                by_the_model = self._front.by_the_model
                answers = {name: signed(answer, by_the_model) for name, answer in answers.items()}
                answers.update(self._front.answers)
            self._loop.run(self._listen(answers))
        except MeshfoldError:
            self._end(0)
            raise

    @property
    def runners(self) -> Mapping[str, Runner]:
        """What is served, by surface."""
        return self._versions.runners

    @property
    def has_front(self) -> bool:
        """Whether it stands in front of a mesh."""
        return self._front is not None

    def start(self, on_failure: Callable[[], None] = lambda: None) -> None:
        """Loads what is published, then answers. on_failure: called where gRPC ends by itself."""
        self._on_failure = on_failure
        sys.setswitchinterval(_SWITCH_S)
        collector.start()
        self._versions.start()
        collector.settle()
        if self._front is not None:
            self._front.start(self._loop.loop)
        self._started = True
        self._loop.run(self._show_health())
        self._loop.run(self._serve())

    def stop(self) -> None:
        """Sends callers elsewhere, ends the calls in flight, all within the grace; cancels the rest. Once is enough."""
        if self._ended:
            return
        grace_s = self._config.shutdown_grace_s
        start_s = time.monotonic()
        end_s = start_s + grace_s
        _log.info("stopping: address=%s grace_s=%g calls=%d", self.address, grace_s, self._intake.calls())
        if self._health is not None:
            self._loop.loop.call_soon_threadsafe(self._health.stop)
            # Those that watch it are told before their streams end.
            time.sleep(min(_QUIET_S, grace_s / 10))
        # Callers that check health go elsewhere. Those that go on calling are answered for half of the grace.
        while self._quiet_s() < _QUIET_S and time.monotonic() < end_s - grace_s / 2:
            time.sleep(_QUIET_S / 5)
        # Then they are told to ask another until the last has left: a stop cancels calls that gRPC has not handed over.
        for intake in (self._intake, self._own_intake):
            self._loop.loop.call_soon_threadsafe(intake.refuse)
        while not self._intake.is_quiet(_QUIET_S) and time.monotonic() < end_s:
            time.sleep(_QUIET_S / 5)
        left = self._intake.calls()
        self._end(max(0.0, end_s - time.monotonic()))
        _log.info("stopped: took_s=%.1f cancelled=%d", time.monotonic() - start_s, left)

    def _end(self, grace_s: float) -> None:
        self._ended = True
        end_s = time.monotonic() + grace_s
        self._loop.run(stop(self._servers, grace_s))
        self._operators.stop()
        if self._front is not None:
            self._front.stop(max(0.0, end_s - time.monotonic()))
        self._scheduler.stop(max(0.0, end_s - time.monotonic()))
        if self._started:
            self._versions.stop(max(0.0, end_s - time.monotonic()))
        if self._metrics is not None and self.metrics_address:
            self._metrics.stop()
        self._loop.stop()

    async def _listen(self, answers: Mapping[str, Answer]) -> None:
        config = self._config
        operations = {} if self._front is None else self._front.operations
        self._health = discovery.health()
        served = sorted({split_method(name)[0] for name in answers})
        intake, age_s = self._intake, config.connection_age_s
        # Handlers are asked in their order: what none of them knows is passed on.
        passed = [] if self._front is None else [intake.passed(self._front.passed)]
        callers, self.address = listening(
            config.address,
            "--address",
            [*intake.unary(answers), *discovery.handlers(intake, served, self._health), *passed],
            PortLimits(config.max_message_bytes, config.metadata_bytes, age_s),
        )
        self._servers.append(callers)
        if config.admin_address == NO_ADDRESS:
            return
        own = self._own_intake
        operated = sorted({split_method(name)[0] for name in operations})
        operators, self.admin_address = listening(
            operators_address(config.admin_address, self.address, _port(config.address)),
            "--admin-address",
            [
                *own.unary(self._operators.answers(operations)),
                *discovery.handlers(own, operated, self._health),
            ],
            PortLimits(config.max_message_bytes, age_s=age_s),
        )
        self._servers.append(operators)

    async def _serve(self) -> None:
        self._watch = asyncio.create_task(self._scheduler.watch())
        for server in self._servers:
            await server.start()
            self._ends.append(asyncio.create_task(self._watch_end(server)))

    async def _watch_end(self, server: Any) -> None:
        await server.wait_for_termination()
        if not self._ended:
            _log.critical("gRPC's server ended by itself, so that nothing is answered any more")
            if self._health is not None:
                self._health.stop()
            self._on_failure()

    def _quiet_s(self) -> float:
        front_s = math.inf if self._front is None else self._front.quiet_s()
        return min(self._scheduler.quiet_s(), front_s)

    def _own_metrics(self) -> Metrics:
        from meshfold.service.metrics import Metrics

        metrics = Metrics()
        metrics.ask(self._samples)
        return metrics

    def _samples(self) -> Iterator[Sample]:
        from meshfold.service.metrics import Gauge

        lanes = {"callers": self._scheduler.callers, "background": self._scheduler.background}
        for name, lane in lanes.items():
            labels = {"lane": name}
            yield Gauge("meshfold_queue", "Requests that wait for a worker.", lane.waiting(), labels)
            yield Gauge(
                "meshfold_refused", "Requests refused on arrival, by lane.", lane.refused, labels, counts=True
            )
            yield Gauge("meshfold_shed", "Requests refused in the queue.", lane.shed, labels, counts=True)
        for code, count in self._intake.refusals.counts.copy().items():
            meaning = "Calls of callers that this server refused, by status."
            yield Gauge("meshfold_calls_refused", meaning, count, {"code": code}, counts=True)
        yield Gauge(
            "meshfold_unread_bytes", "Bytes of answers not read by callers.", self._intake.unread_bytes()
        )
        meaning = "1 while the store can be read."
        yield Gauge("meshfold_store_readable", meaning, float(self._versions.store_readable))
        meaning = "Snapshots newer than what is served that could not be loaded."
        yield Gauge("meshfold_snapshots_failing", meaning, self._versions.failing)
        yield Gauge("meshfold_swaps", "Snapshots that came into service.", self._swaps, counts=True)
        for surface, runner in self._versions.runners.items():
            labels = {"surface": surface, "version": runner.version[:12]}
            yield Gauge("meshfold_served", "1 for the version of each surface that is served.", 1, labels)
        if self._front is not None:
            yield from self._front.samples()

    def _changed(self) -> None:
        """Another version is served."""
        self._swaps += 1
        if not self._started:
            return
        collector.settle()
        asyncio.run_coroutine_threadsafe(self._show_health(), self._loop.loop)

    async def _show_health(self) -> None:
        if self._health is None:
            return
        serving = bool(self._versions.runners)
        # With a mesh behind it a server answers before anything is published.
        fronted = () if self._front is None else ("", *self._front.services)
        self._health.set(
            {service: serving or service in fronted for service in ("", *self._services, *fronted)}
        )


# Requests of one forward pass. A CPU computes one after the other anyway.
_BATCH_ON_A_GPU = 32


def threads_of(config: ServerConfig, devices: Sequence[torch.device]) -> tuple[int, int]:
    """(workers, torch's threads of each)."""
    if devices[0].type != "cpu":
        # One prepares and encodes while another's pass runs.
        return config.workers or 2, 1
    workers = config.workers or len(os.sched_getaffinity(0))
    return workers, max(1, torch.get_num_threads() // workers)


def _port(address: str) -> int:
    return 0 if address.startswith("unix:") else int(address.rpartition(":")[2])


def _open_runner(
    config: ServerConfig,
    loading: Callable[[], AbstractContextManager[Progress]],
    folder: Path,
    surface: str,
) -> Runner:
    with loading() as progress:
        return Runner.open(
            folder,
            surface,
            config.device,
            config.residuals,
            config.max_batch or _BATCH_ON_A_GPU,
            config.cuda_graphs,
            progress,
        )


def _tuning(file: Path) -> Tuning:
    try:
        return read_tuning(file)
    except OSError as error:
        raise InvalidConfig(f"the tuning file {file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InvalidConfig(f"{error}; `meshfold tune --store STORE --out FILE` writes one") from None
