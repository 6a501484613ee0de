"""What the server asks of what stands in front of it and a mesh, and what is told of each call there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from meshfold.model.types import User
from meshfold.service.call import Answer, Metadata
from meshfold.service.hydration import user_bytes

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from grpc import StatusCode

    from meshfold.service.config import ServerConfig
    from meshfold.service.http_port import Page
    from meshfold.service.intake import Operation
    from meshfold.service.streams import StreamAnswer


class Side(StrEnum):
    """Who can answer."""

    MESH = "mesh"
    MODEL = "model"

    @property
    def other(self) -> Side:
        return Side.MODEL if self is Side.MESH else Side.MESH


@dataclass(frozen=True)
class Reply:
    """hydrated: the user as the model got it, where the server filled in more than the request has."""

    message: bytes
    initial: Metadata = ()
    trailing: Metadata = ()
    hydrated: User | None = None

    @property
    def size_bytes(self) -> int:
        """Of the message and the user that was filled in."""
        return len(self.message) + (0 if self.hydrated is None else user_bytes(self.hydrated))


@dataclass(frozen=True)
class Outcome:
    """What became of asking one side. reply: None where it failed. code: its status. took_s: how long it was asked."""

    side: Side
    reply: Reply | None
    code: StatusCode
    took_s: float


@dataclass(frozen=True)
class Answered:
    """What a caller got.

    number: of the call, counted by the server. surface: a known one, else "other". mode: of the surface, in words.
    outcome: of the side that the caller's answer or status is from. fallback: the name of the status with which the
    side that was asked first failed; "" where it is the one that answered. took_s: the caller's whole time in the
    front. method: the full name of a mapped method; "" for mesh.v1's Retrieve. metadata: those of the caller that the
    method's mapping reads. request_id: of a mapped method's request.
    """

    number: int
    surface: str
    mode: str
    message: bytes
    outcome: Outcome
    fallback: str
    took_s: float
    method: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    request_id: bytes = b""


class Observer(Protocol):
    """Told of every call, on the caller's path: it must neither wait nor raise."""

    def answered(self, answered: Answered, /) -> None: ...

    def shadowed(self, answered: Answered, shadow: Outcome, /) -> None:
        """The other side's outcome for the same request."""


@dataclass(frozen=True)
class Sample:
    """A number to be shown. counts: whether it only ever grows."""

    name: str
    meaning: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    counts: bool = False


@dataclass(frozen=True)
class Distribution:
    """Values to be shown as a histogram.

    counts: of values up to each bound and above the one before; the last, of those above all bounds. total: the sum of
    the values.
    """

    name: str
    meaning: str
    bounds: Sequence[float]
    counts: Sequence[int]
    total: float
    labels: Mapping[str, str] = field(default_factory=dict)


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

    @property
    def pages(self) -> Mapping[str, Page]:
        """By path, beside the metrics: for people."""

    @property
    def trouble(self) -> str:
        """Why changes of modes by other servers do not come into effect here; "" where they do."""

    def samples(self) -> Iterable[Sample | Distribution]:
        """What it shows of itself now."""

    def start(self, loop: AbstractEventLoop) -> None:
        """loop: that runs its answers."""

    def quiet_s(self) -> float:
        """Seconds since the last call that the model would have answered came; inf where none did."""

    def stop(self, grace_s: float) -> None:
        """After the last call."""


# Settings, the model's answers by full name, the surfaces that the model serves now, and who is told of calls.
ConnectFront = Callable[
    ["ServerConfig", Mapping[str, Answer], Callable[[], Collection[str]], Sequence[Observer]], Front
]
