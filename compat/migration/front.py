"""What stands in front of a mesh, put together: proxy, modes and the service that switches them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from meshfold.compat.mesh_v1.retrieve import METHOD
from meshfold.compat.migration.breaker import Breaker, BreakerSettings
from meshfold.compat.migration.migration_service import SERVICE, MigrationService
from meshfold.compat.migration.mode_file import ModeFile
from meshfold.compat.migration.mode_switch import ModeSwitch
from meshfold.compat.migration.modes import Kind
from meshfold.compat.migration.outcome import Errors, Observer, Observers
from meshfold.compat.migration.proxy import OTHER, Proxy, ProxySettings
from meshfold.compat.migration.sides import Answer, Mesh, Model, ModelAnswer
from meshfold.compat.recording.recorder import Recorder
from meshfold.compat.recording.recording_service import SERVICE as RECORDING_SERVICE
from meshfold.compat.recording.recording_service import RecordingService

COMPRESSIONS = {
    "none": grpc.Compression.NoCompression,
    "deflate": grpc.Compression.Deflate,
    "gzip": grpc.Compression.Gzip,
}


@dataclass(frozen=True)
class FrontSettings:
    """mesh: its host and port. state: the file of modes. compression: a name of COMPRESSIONS, of what the mesh gets."""

    mesh: str
    state: Path
    compression: str
    breaker: BreakerSettings
    proxy: ProxySettings


@dataclass(frozen=True)
class Sample:
    """A number to be shown. counts: whether it only ever grows."""

    name: str
    meaning: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    counts: bool = False


class Front:
    """Between a server's calls and the model's answers."""

    # Answered whether the model serves anything or not.
    services = (METHOD.split("/")[1], SERVICE, RECORDING_SERVICE)

    def __init__(
        self,
        settings: FrontSettings,
        models: Mapping[str, ModelAnswer],
        served: Callable[[], Collection[str]],
        observers: Sequence[Observer],
        errors: Errors,
        recorder: Recorder,
    ) -> None:
        """models: the model's answers by full name. served: the surfaces that the model serves now.

        Raises InvalidConfig where the modes cannot be read.
        """
        self._switch = ModeSwitch(ModeFile(settings.state), lambda: self._proxy.shadow.queue.clear())
        self._served = served
        self._loop: asyncio.AbstractEventLoop | None = None
        self._breaker = Breaker(settings.breaker, errors.code_of)
        mesh = Mesh(settings.mesh, METHOD, COMPRESSIONS[settings.compression], self._breaker)
        told = Observers((recorder, *observers))
        self._proxy = Proxy(Model(models[METHOD]), mesh, self._switch, served, settings.proxy, told, errors)
        self._recorder = recorder
        self._service = MigrationService(self._switch, settings.mesh, served)

    @property
    def answers(self) -> Mapping[str, Proxy]:
        """By full name, in place of the model's."""
        return {METHOD: self._proxy}

    @property
    def operations(self) -> Mapping[str, Answer]:
        """By full name, for those who operate it."""
        return {**self._service.answers, **RecordingService(self._recorder).answers}

    def samples(self) -> Iterator[Sample]:
        """What it shows of itself now."""
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
            meaning = "Users of each surface whom the model answers."
            yield Sample("meshfold_model_percent", meaning, percent, {"surface": surface})
        waiting = self._breaker.waiting()
        yield Sample("meshfold_mesh_waiting", "Calls that wait for the mesh.", waiting)
        for surface in dict.fromkeys((*self._served(), *modes.surfaces, OTHER)):
            meaning = "1 while the mesh counts as down for a surface."
            yield Sample(
                "meshfold_mesh_down", meaning, float(self._breaker.is_open(surface)), {"surface": surface}
            )
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

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """loop: that runs its answers."""
        self._loop = loop
        self._switch.start()
        self._recorder.start()
        asyncio.run_coroutine_threadsafe(self._proxy.start(), loop).result()

    def quiet_s(self) -> float:
        """Seconds since the last call came; inf where none did."""
        return self._proxy.quiet_s()

    def stop(self, grace_s: float) -> None:
        """After the last call."""
        if self._loop is None:
            return
        end_s = time.monotonic() + grace_s
        asyncio.run_coroutine_threadsafe(self._proxy.stop(grace_s), self._loop).result()
        self._recorder.stop(max(0.0, end_s - time.monotonic()))
        self._switch.stop()
