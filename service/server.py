"""The gRPC server of the model around one store of snapshots."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from meshfold.model.errors import MeshfoldError
from meshfold.model.progress import Progress, silent
from meshfold.model.store import Store
from meshfold.service.call import Answer
from meshfold.service.computing import Computing, InProcesses, InThreads
from meshfold.service.config import ServerConfig
from meshfold.service.denied import Denied
from meshfold.service.devices import devices_of
from meshfold.service.front import ConnectFront, Distribution, Front, Sample
from meshfold.service.handlers import Adapter, Handler
from meshfold.service.hydration import Hydration, OpenHydration
from meshfold.service.intake import Operation, signed
from meshfold.service.listener import Listener
from meshfold.service.memory_room import check_room
from meshfold.service.protocols import answer_of, pools_of
from meshfold.service.request_sample import RequestSample
from meshfold.service.samples import server_samples, version_samples
from meshfold.service.version_operations import VersionOperations
from meshfold.service.version_pins import VersionPins
from meshfold.service.versions import Versions

# Makes the operators' calls, by full method name, from the objects that they act on.
Operate = Callable[[VersionOperations, Denied, "Server"], Mapping[str, Operation]]


class Server:
    """Binds its ports when it is made; answers from start() to stop()."""

    def __init__(
        self,
        config: ServerConfig,
        adapters: Sequence[Adapter[Any, Any]],
        connect_front: ConnectFront | None = None,
        loading: Callable[[], AbstractContextManager[Progress]] = lambda: nullcontext(silent),
        operate: Operate = lambda *_: {},
        open_hydration: OpenHydration | None = None,
    ) -> None:
        """connect_front: makes the front of the mesh that the settings name. loading: opens a display of how far a
        snapshot is loaded. operate: makes the operators' calls. open_hydration: opens the file of hydration settings.

        Raises InvalidConfig where an address cannot be bound, the device is missing, or a file named by the settings
        (such as that of denied items) cannot be read.
        """
        devices = devices_of(config.device)
        self._hydration: Hydration | None = None
        if config.hydrate and open_hydration is not None:
            self._hydration = open_hydration(Path(config.hydrate))
        self._denied = Denied(config.state_place("denied"), copies=config.copies)
        self._pins = pins = VersionPins(config.state_place("versions"), config.copies)
        self._front: Front | None = None
        self._on_failure: Callable[[], None] = lambda: None
        self._listener = Listener(config, lambda: bool(self.runners), lambda: not self.trouble)
        self._computing: Computing = (
            InProcesses(config, adapters, loading, self._lost_fork_server)
            if devices[0].type == "cpu"
            else InThreads(config, loading)
        )
        self._scheduler = self._computing.scheduler
        self._sample = RequestSample()
        store = Store(config.store)
        self._versions = Versions(
            store,
            partial(self._computing.open, self._denied, self._sample),
            config.poll_interval_s,
            self._listener.changed,
            pins=pins,
            # The memory of a GPU is checked when a model is copied there.
            check_room=check_room if devices[0].type == "cpu" else lambda _: None,
            hold_previous=config.hold_previous,
            on_look=lambda: self._operations.retain(),
            may_serve=lambda: self._denied.is_known and pins.is_known,
            is_broken=self._computing.is_broken,
        )
        self._operations = VersionOperations(store, self._versions, pins, config.retention)
        metrics = self._listener.metrics
        try:
            answers: dict[str, Answer] = {
                adapter.METHOD: answer_of(
                    adapter,
                    Handler(
                        adapter, self._versions, self._scheduler, config.limits, self._sample, self._hydration
                    ),
                )
                for adapter in adapters
            }
            if config.mesh and connect_front is not None:
                observers = () if metrics is None else (metrics,)
                self._front = connect_front(config, answers, self._versions.served, observers)
                by_the_model = self._front.by_the_model
                answers = {name: signed(answer, by_the_model) for name, answer in answers.items()}
                answers.update(self._front.answers)
            if metrics is not None:
                metrics.ask(self._samples)
                metrics.show({} if self._front is None else self._front.pages)
            operations = operate(self._operations, self._denied, self)
            self._listener.listen(answers, self._front, operations, pools_of(adapters))
        except MeshfoldError:
            self._listener.close(self._end)
            raise

    @property
    def address(self) -> str:
        """The callers' address, with the bound port."""
        return self._listener.address

    @property
    def admin_address(self) -> str:
        """The operators' address; "" for none."""
        return self._listener.admin_address

    @property
    def metrics_address(self) -> str:
        """The address of the metrics; "" for none."""
        return self._listener.metrics_address

    @property
    def runners(self) -> Mapping[str, Any]:
        """The active runner of each surface."""
        return self._versions.runners

    @property
    def has_front(self) -> bool:
        """Whether the server stands in front of a mesh."""
        return self._front is not None

    @property
    def trouble(self) -> str:
        """Why changes by other servers do not come into effect here; "" where they do."""
        front = "" if self._front is None else self._front.trouble
        return front or self._denied.trouble or self._pins.trouble

    def start(self, on_failure: Callable[[], None] = lambda: None) -> None:
        """Loads the published snapshots, then answers. on_failure: called where the server must be started again: gRPC
        has ended by itself, or no process can be started for a snapshot and no mesh could answer instead."""
        self._on_failure = on_failure
        self._listener.start(self._load, on_failure)
        self._watch = asyncio.run_coroutine_threadsafe(self._scheduler.watch(), self._listener.loop)

    def stop(self) -> None:
        """Within the grace directs callers to other servers and ends the calls in flight; then cancels the rest."""
        self._listener.stop(self._quiet_s, self._end)

    def _lost_fork_server(self) -> None:
        if self._front is None:
            self._on_failure()

    def _load(self) -> None:
        self._denied.start()
        self._versions.start()
        if self._hydration is not None:
            self._hydration.start()
        if self._front is not None:
            self._front.start(self._listener.loop)

    def _end(self, left_s: Callable[[], float]) -> None:
        if self._front is not None:
            self._front.stop(left_s())
        self._scheduler.stop(left_s())
        if self._hydration is not None:
            self._hydration.stop(self._listener.loop)
        self._versions.stop(left_s())
        self._computing.close()
        self._denied.stop()
        self._pins.close()

    def _quiet_s(self) -> float:
        front_s = math.inf if self._front is None else self._front.quiet_s()
        return min(self._scheduler.quiet_s(), front_s)

    def _samples(self) -> Iterator[Sample | Distribution]:
        yield from server_samples(self._versions, self._scheduler, self._listener.intake)
        yield from version_samples(self._operations, self._denied)
        if self._hydration is not None:
            yield from self._hydration.samples()
        if self._front is not None:
            yield from self._front.samples()
