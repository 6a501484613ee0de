"""In front of a mesh: the settings, and what the server asks of whatever stands there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol

from meshfold.model.errors import InvalidConfig

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from grpc import StatusCode

    from meshfold.service.call import Answer, Metadata
    from meshfold.service.config import ServerConfig
    from meshfold.service.intake import Operation
    from meshfold.service.streams import StreamAnswer

COMPRESSIONS = ("none", "deflate", "gzip")
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
    """In front of a mesh."""

    state: Annotated[str, "file that keeps the modes"] = ".meshfold/modes.json"
    fallback: Annotated[bool, "whether the model may answer where the mesh is down"] = False
    first_share: Annotated[float, "part of a call's time that the side asked first has before the other"] = (
        0.7
    )
    mesh_timeout_s: Annotated[float, "longest that the mesh may take for an answer, in seconds"] = 10.0
    keepalive_s: Annotated[
        float, "seconds without a byte from the mesh after which a call asks for a sign of life"
    ] = 3.0
    keepalive_timeout_s: Annotated[float, "seconds that it has for one; then the connection is given up"] = (
        4.0
    )
    streams_keepalive_s: Annotated[float, "as keepalive_s, for calls that are passed on"] = 310.0
    mesh_waiting: Annotated[int, "most calls that wait for the mesh; one surface has half of them"] = 1024
    passed_calls: Annotated[int, "most calls open at once that are passed on to the mesh"] = 1024
    passed_idle_s: Annotated[float, "seconds without a message after which such a call ends"] = 3600.0
    compression: Annotated[str, "of requests to the mesh: none, deflate or gzip"] = "none"
    shadow_queue: Annotated[int, "most requests that wait for their shadow; more are dropped"] = 256
    shadow_queue_bytes: Annotated[int, "most bytes of those requests and their answers"] = 64 << 20
    shadow_timeout_s: Annotated[float, "seconds that a shadow's answer may take"] = 5.0
    shadow_threads: Annotated[int, "shadows that run at once"] = 2

    def __post_init__(self) -> None:
        if not 0 < self.first_share < 1:
            raise InvalidConfig(f"migration.first_share must be between 0 and 1, got {self.first_share}")
        if self.compression not in COMPRESSIONS:
            raise InvalidConfig(
                f"migration.compression must be one of {', '.join(COMPRESSIONS)}, got {self.compression!r}"
            )
        for name in ("mesh_waiting", "passed_calls", "shadow_queue", "shadow_queue_bytes", "shadow_threads"):
            if getattr(self, name) < 1:
                raise InvalidConfig(f"migration.{name} must be at least 1, got {getattr(self, name)}")
        for name in _SECONDS:
            if not 0 < getattr(self, name) < 86_400:
                raise InvalidConfig(
                    f"migration.{name} must be above 0 and below a day, got {getattr(self, name)}"
                )


class Outcome(Protocol):
    """What became of asking one side."""

    @property
    def side(self) -> str: ...

    @property
    def code(self) -> StatusCode: ...

    @property
    def took_s(self) -> float: ...


class Answered(Protocol):
    """What a caller got. surface: of a short list. fallback: the status of the side asked first, if that failed."""

    @property
    def surface(self) -> str: ...

    @property
    def outcome(self) -> Outcome: ...

    @property
    def fallback(self) -> str: ...

    @property
    def took_s(self) -> float: ...


class Observer(Protocol):
    """Told of every call, on the caller's path: it must neither wait nor raise."""

    def answered(self, answered: Answered, /) -> None: ...

    def shadowed(self, answered: Answered, shadow: Outcome, /) -> None: ...


class Sample(Protocol):
    """A number to be shown. counts: whether it only ever grows."""

    @property
    def name(self) -> str: ...

    @property
    def meaning(self) -> str: ...

    @property
    def labels(self) -> Mapping[str, str]: ...

    @property
    def value(self) -> float: ...

    @property
    def counts(self) -> bool: ...


class Front(Protocol):
    """Between a server's calls and the model's answers."""

    @property
    def services(self) -> Sequence[str]:
        """Those that it answers by itself, whether the model serves anything or not."""

    @property
    def by_the_model(self) -> Metadata:
        """Of answers to calls that no mesh knows."""

    @property
    def answers(self) -> Mapping[str, Answer]:
        """By full name: of calls that the model would answer."""

    @property
    def passed(self) -> StreamAnswer:
        """Answers calls that the server does not know."""

    @property
    def operations(self) -> Mapping[str, Operation]:
        """By full name: of its own services, for those who operate it."""

    def samples(self) -> Iterable[Sample]:
        """What it shows of itself now."""

    def start(self, loop: AbstractEventLoop) -> None:
        """loop: that runs its answers."""

    def quiet_s(self) -> float:
        """Seconds since the last call that the model would have answered came; inf where none did."""

    def stop(self, grace_s: float) -> None:
        """After the last call."""


# Settings, the model's answers by full name, the surfaces that the model serves now, and who is told of calls.
ConnectFront = Callable[
    ["ServerConfig", Mapping[str, "Answer"], Callable[[], Collection[str]], Sequence[Observer]], Front
]
