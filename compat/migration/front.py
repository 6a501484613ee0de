"""What stands in front of a mesh, put together: proxy, modes and the service that switches them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

from meshfold.compat.mesh_v1.retrieve import METHOD
from meshfold.compat.migration.migration_service import SERVICE, MigrationService
from meshfold.compat.migration.mode_file import ModeFile
from meshfold.compat.migration.mode_switch import ModeSwitch
from meshfold.compat.migration.outcome import Errors, Observer
from meshfold.compat.migration.proxy import Proxy, ProxySettings
from meshfold.compat.migration.sides import Answer, Mesh

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
    proxy: ProxySettings


class Front:
    """Between a server's calls and the model's answers."""

    # Answered whether the model serves anything or not.
    services = (METHOD.split("/")[1], SERVICE)

    def __init__(
        self,
        settings: FrontSettings,
        models: Mapping[str, Answer],
        served: Callable[[], Collection[str]],
        observer: Observer,
        errors: Errors,
    ) -> None:
        """models: the model's answers by full name. served: the surfaces that the model serves now.

        Raises InvalidConfig where the modes cannot be read.
        """
        switch = ModeSwitch(ModeFile(settings.state))
        mesh = Mesh(settings.mesh, METHOD, COMPRESSIONS[settings.compression])
        self._proxy = Proxy(models[METHOD], mesh, switch, served, settings.proxy, observer, errors)
        self._service = MigrationService(switch, settings.mesh, served, self._proxy.shadow.queue.clear)

    @property
    def answers(self) -> Mapping[str, Answer]:
        """By full name of the call."""
        return {METHOD: self._proxy, **self._service.answers}

    def start(self) -> None:
        self._proxy.start()

    def quiet_s(self) -> float:
        """Seconds since the last call came; inf where none did."""
        return self._proxy.quiet_s()

    def stop(self, grace_s: float) -> None:
        """After the last call."""
        self._proxy.stop(grace_s)
