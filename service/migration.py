"""Settings of a server in front of a mesh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from meshfold.model.errors import InvalidConfig

# Members of grpc.Compression, by the names of the setting.
COMPRESSIONS = {"none": "NoCompression", "deflate": "Deflate", "gzip": "Gzip"}
_SECONDS = (
    "mesh_timeout_s",
    "keepalive_s",
    "keepalive_timeout_s",
    "streams_keepalive_s",
    "passed_idle_s",
    "shadow_timeout_s",
)


@dataclass(frozen=True)
class MigrationConfig:
    """Settings of a server in front of a mesh."""

    state: Annotated[str, "file, or place in Redis, of the modes"] = ".meshfold/modes.json"
    fallback: Annotated[bool, "whether the model may answer where the mesh is down"] = False
    first_share: Annotated[
        float, "fraction of a call's time that the first side gets before the other is called"
    ] = 0.7
    mesh_timeout_s: Annotated[float, "time limit of an answer of the mesh, in seconds"] = 10.0
    keepalive_s: Annotated[
        float, "seconds without a byte from the mesh after which it is pinged during a call"
    ] = 3.0
    keepalive_timeout_s: Annotated[
        float, "seconds that the mesh has to answer a ping; then the connection is closed"
    ] = 4.0
    streams_keepalive_s: Annotated[float, "the same as keepalive_s, for calls that are passed on"] = 310.0
    mesh_waiting: Annotated[
        int, "most calls that wait for the mesh; at most half of them for one surface"
    ] = 1024
    passed_calls: Annotated[int, "most calls open at once that are passed on to the mesh"] = 1024
    passed_idle_s: Annotated[float, "seconds without a message after which such a call ends"] = 3600.0
    compression: Annotated[str, "of requests to the mesh: none, deflate or gzip"] = "none"
    shadow_queue: Annotated[int, "most requests that wait to be shadowed, in 64 MiB; more are dropped"] = 256
    shadow_timeout_s: Annotated[float, "seconds that a shadow's answer may take"] = 5.0
    shadow_threads: Annotated[int, "shadows that run at once"] = 2

    def __post_init__(self) -> None:
        if not 0 < self.first_share < 1:
            raise InvalidConfig(f"migration.first_share must be between 0 and 1, got {self.first_share}")
        if self.compression not in COMPRESSIONS:
            raise InvalidConfig(
                f"migration.compression must be one of {', '.join(COMPRESSIONS)}, got {self.compression!r}"
            )
        for name in ("mesh_waiting", "passed_calls", "shadow_queue", "shadow_threads"):
            if getattr(self, name) < 1:
                raise InvalidConfig(f"migration.{name} must be at least 1, got {getattr(self, name)}")
        for name in _SECONDS:
            if not 0 < getattr(self, name) < 86_400:
                raise InvalidConfig(
                    f"migration.{name} must be above 0 and below a day, got {getattr(self, name)}"
                )
