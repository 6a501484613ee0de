"""The front of a mesh: connects proxy, modes and the service that switches them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import grpc

from meshfold.compat.migration.assignments import AssignmentLog
from meshfold.compat.migration.breaker import Breaker
from meshfold.compat.migration.connections import Connections, ConnectionSettings
from meshfold.compat.migration.methods import METHODS, mapped_methods
from meshfold.compat.migration.migration_service import SERVICE, MigrationService
from meshfold.compat.migration.mode_file import open_modes
from meshfold.compat.migration.mode_switch import ModeSwitch
from meshfold.compat.migration.modes import Kind
from meshfold.compat.migration.observers import Observers
from meshfold.compat.migration.passed import Passed
from meshfold.compat.migration.proxy import OTHER, Proxy
from meshfold.compat.migration.shadow import uncompared
from meshfold.compat.migration.sides import ANSWERED_BY, Mesh, Model
from meshfold.compat.recording.recorder import Recorder
from meshfold.compat.recording.recording_service import SERVICE as RECORDING_SERVICE
from meshfold.compat.recording.recording_service import RecordingService
from meshfold.compat.shadow.live.live_comparison import LiveComparison
from meshfold.service.call import Answer
from meshfold.service.config import ServerConfig
from meshfold.service.front import Distribution, Observer, Sample, Side
from meshfold.service.intake import Operation
from meshfold.service.migration import COMPRESSIONS

if TYPE_CHECKING:
    from meshfold.compat.live_page.server_page import ServerPage
    from meshfold.service.http_port import Page


class Front:
    """The implementation of Front in service/front.py."""

    # Metadata of answers to methods that no mesh has.
    by_the_model = ((ANSWERED_BY, Side.MODEL.value),)

    def __init__(
        self,
        config: ServerConfig,
        models: Mapping[str, Answer],
        served: Callable[[], Collection[str]],
        observers: Sequence[Observer] = (),
    ) -> None:
        """models: the model's answers by full name. served: returns the surfaces that the model serves now. observers:
        get every answered call.

        Raises InvalidConfig where the modes or a key file cannot be read.
        """
        own = config.migration
        methods = (*METHODS, *mapped_methods(models))
        # Services that are answered even while the model serves no surface.
        self.services = (
            *dict.fromkeys(method.name.split("/")[1] for method in methods),
            SERVICE,
            RECORDING_SERVICE,
        )
        self._switch = ModeSwitch(
            open_modes(own.state, config.copies), lambda: self._proxy.shadow.queue.clear()
        )
        self._served = served
        self._loop: asyncio.AbstractEventLoop | None = None
        self._breaker = Breaker(own)
        compression = grpc.Compression[COMPRESSIONS[own.compression]]
        self._connections, self._streams = (
            Connections(
                ConnectionSettings(config.mesh_addresses, compression, keepalive_s, own.keepalive_timeout_s),
                purpose,
            )
            # Calls that are passed on may last longer, without messages.
            for purpose, keepalive_s in (("modes", own.keepalive_s), ("passed", own.streams_keepalive_s))
        )
        self._passed_codes: Counter[str] = Counter()
        silence_s = own.keepalive_s + own.keepalive_timeout_s
        self._passed = Passed(self._streams, silence_s, lambda code: self._passed_codes.update((code.name,)))
        traffics = {each.name: each.traffic for each in methods if each.traffic is not None}
        self._recorder = Recorder(config.recording, traffics)
        self._assignments = AssignmentLog(config.assignments, methods) if config.assignments.on else None
        logs = () if self._assignments is None else (self._assignments,)
        told = Observers((self._recorder, *logs, *observers))
        mesh = Mesh(self._connections, self._breaker)
        compared = config.comparison
        self._comparison: LiveComparison | None = None
        if compared.on:
            mappings = [name for name in config.mapping.split(",") if name]
            self._comparison = LiveComparison(compared, mesh, own.shadow_timeout_s, config.store, mappings)
        self._proxy = Proxy(
            *(Model(models), mesh, self._switch, served, own, told),
            canary_share=compared.canary_share if compared.on else 0.0,
            compare=self._comparison.shadowed if self._comparison is not None else uncompared,
            methods=methods,
        )
        self._service = MigrationService(self._switch, ",".join(config.mesh_addresses), served, compared)
        self._page: ServerPage | None = None
        if config.metrics_address and compared.page:
            # Imported here, since only servers with the page need it.
            from meshfold.compat.live_page.server_page import ServerPage

            self._page = ServerPage(config, self._switch, served, self._comparison)

    @property
    def answers(self) -> Mapping[str, Answer]:
        """Answers by full name, in place of the model's."""
        return self._proxy.answers

    @property
    def passed(self) -> Passed:
        """The answer to calls of methods that the server does not know."""
        return self._passed

    @property
    def operations(self) -> Mapping[str, Operation]:
        """Operators' calls by full name."""
        return {**self._service.answers, **RecordingService(self._recorder).answers}

    @property
    def pages(self) -> Mapping[str, Page]:
        """Web pages by path, on the metrics port."""
        return {} if self._page is None else self._page.pages

    @property
    def trouble(self) -> str:
        """What is wrong with the place of the modes; "" for nothing."""
        return self._switch.trouble

    def samples(self) -> Iterator[Sample | Distribution]:
        """The front's metrics at this moment."""
        modes = self._switch.current
        yield Sample("meshfold_mode_changes", "Changes of modes.", modes.generation, counts=True)
        meaning = "1 while changes of modes by other servers come into effect here."
        yield Sample("meshfold_modes_readable", meaning, float(self._switch.readable))
        meaning = "1 while a kill is in effect that is not durable yet."
        yield Sample("meshfold_kill_unwritten", meaning, float(self._switch.killed_unwritten))
        for surface in {"": None, **dict.fromkeys(self._served()), **dict.fromkeys(modes.surfaces)}:
            mode = modes.of(surface)
            for kind in Kind:
                yield Sample(
                    "meshfold_mode",
                    "1 for the mode of each surface; that of the default has none.",
                    float(mode.kind is kind),
                    {"surface": surface, "mode": kind.value},
                )
            percent = {Kind.SERVE: 100.0, Kind.ONLY: 100.0, Kind.CANARY: mode.percent}.get(mode.kind, 0.0)
            meaning = "Share of each surface's users that the model answers, in percent."
            yield Sample("meshfold_model_percent", meaning, percent, {"surface": surface})
        waiting = self._breaker.waiting()
        yield Sample("meshfold_mesh_waiting", "Calls that wait for the mesh.", waiting)
        for surface in dict.fromkeys((*self._served(), *modes.surfaces, OTHER)):
            meaning = "1 while the mesh counts as down for a surface."
            yield Sample(
                "meshfold_mesh_down", meaning, float(self._breaker.is_open(surface)), {"surface": surface}
            )
        yield from self._mesh_samples()
        queue = self._proxy.shadow.queue
        yield Sample("meshfold_shadow_queue", "Requests that wait for their shadow.", len(queue))
        yield Sample(
            "meshfold_shadows_dropped", "Shadows for which there was no room.", queue.dropped, counts=True
        )

        recorder = self._recorder
        yield Sample("meshfold_recording", "1 while calls are recorded.", float(recorder.on))
        yield Sample("meshfold_record_queue", "Records that wait to be written.", len(recorder.queue))
        yield Sample("meshfold_records", "Records written.", recorder.written, counts=True)
        yield Sample(
            "meshfold_records_dropped", "Records without room, or not written.", recorder.dropped, counts=True
        )
        if self._assignments is not None:
            yield from self._assignments.samples()
        if self._comparison is not None:
            yield from self._comparison.samples()

    def _mesh_samples(self) -> Iterator[Sample]:
        """Metrics of connections, the breaker, and calls that are not counted elsewhere."""
        for purpose, connections in (("modes", self._connections), ("passed", self._streams)):
            for address, is_up, lost in connections.shown():
                labels = {"address": address, "calls": purpose}
                yield Sample("meshfold_mesh_connected", "1 while a connection stands.", float(is_up), labels)
                yield Sample("meshfold_mesh_connections_lost", "Connections lost.", lost, labels, counts=True)
        for surface, opened in self._breaker.opened.copy().items():
            meaning = "How often the mesh began to count as down."
            yield Sample("meshfold_mesh_downs", meaning, opened, {"surface": surface}, counts=True)
        meaning = "Calls of mesh.v1 besides Retrieve, and those passed on, by the side that answered."
        others = dict(self._proxy.others)
        others |= {("passed", "mesh", code): count for code, count in self._passed_codes.copy().items()}
        for (method, side, code), count in sorted(others.items()):
            labels = {"method": method, "side": side, "code": code}
            yield Sample("meshfold_other_answers", meaning, count, labels, counts=True)
        yield Sample("meshfold_passed_open", "Calls that are passed on now.", self._passed.open)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts the threads and tasks. loop: the event loop of the answers."""
        self._loop = loop
        self._switch.start()
        self._recorder.start()
        if self._assignments is not None:
            self._assignments.start()
        if self._comparison is not None:
            self._comparison.start()
        asyncio.run_coroutine_threadsafe(self._start(), loop).result()

    async def _start(self) -> None:
        self._connections.open()
        self._proxy.start()

    def quiet_s(self) -> float:
        """Seconds since the last call; inf where there was none."""
        return self._proxy.quiet_s()

    def stop(self, grace_s: float) -> None:
        """Stops; called after the last call."""
        if self._page is not None:
            self._page.stop()
        if self._loop is None:
            return
        end_s = time.monotonic() + grace_s
        asyncio.run_coroutine_threadsafe(self._stop(grace_s), self._loop).result()
        self._recorder.stop(max(0.0, end_s - time.monotonic()))
        if self._assignments is not None:
            self._assignments.stop(end_s - time.monotonic())
        if self._comparison is not None:
            self._comparison.stop(end_s - time.monotonic())
        self._switch.stop()

    async def _stop(self, grace_s: float) -> None:
        await self._proxy.stop(grace_s)
        if self._comparison is not None:
            await self._comparison.stop_asking()
        await self._connections.close()
        await self._streams.close()
