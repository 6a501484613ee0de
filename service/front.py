"""The interface between a server and its front, which divides calls between a mesh and the model."""

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
    """The two systems that can answer a call."""

    MESH = "mesh"
    MODEL = "model"

    @property
    def other(self) -> Side:
        return Side.MODEL if self is Side.MESH else Side.MESH


@dataclass(frozen=True)
class Reply:
    """An answer with its metadata. hydrated: the user as the model got it; None where the server filled nothing in."""

    message: bytes
    initial: Metadata = ()
    trailing: Metadata = ()
    hydrated: User | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of the message and of the filled-in user."""
        return len(self.message) + (0 if self.hydrated is None else user_bytes(self.hydrated))


@dataclass(frozen=True)
class Outcome:
    """The result of a call to one side. reply: None where it failed. code: its status. took_s: seconds of the call."""

    side: Side
    reply: Reply | None
    code: StatusCode
    took_s: float


@dataclass(frozen=True)
class Answered:
    """An answered call.

    number: the call's number, counted by the server. surface: a known surface, else "other". mode: the surface's mode,
    in words. outcome: the result whose answer or status the caller got. fallback: name of the status with which the
    first side failed; "" where the first side answered. took_s: seconds from the call to the answer. method: full name
    of a mapped method; "" for mesh.v1's Retrieve. metadata: the caller's metadata that the mapping reads. request_id:
    id of a mapped request.
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
    """Gets every answered call, on the caller's path, so that it must neither wait nor raise."""

    def answered(self, answered: Answered, /) -> None: ...

    def shadowed(self, answered: Answered, shadow: Outcome, /) -> None:
        """The other side's outcome for the same request."""


@dataclass(frozen=True)
class Sample:
    """A metric with one value. counts: whether it is a counter, which only grows."""

    name: str
    meaning: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    counts: bool = False


@dataclass(frozen=True)
class Distribution:
    """A metric that is a histogram.

    counts: number of values in each bucket, between a bound and the one before it; the last bucket is above all bounds.
    total: sum of the values.
    """

    name: str
    meaning: str
    bounds: Sequence[float]
    counts: Sequence[int]
    total: float
    labels: Mapping[str, str] = field(default_factory=dict)


class Front(Protocol):
    """Divides a server's calls between a mesh and the model."""

    @property
    def services(self) -> Sequence[str]:
        """The services that the front answers even while no snapshot is served."""

    @property
    def by_the_model(self) -> Metadata:
        """Trailing metadata of answers to methods that no mesh has."""

    @property
    def answers(self) -> Mapping[str, Answer]:
        """Answers by full method name, in place of the model's."""

    @property
    def passed(self) -> StreamAnswer:
        """The answer to calls of methods that the server does not know."""

    @property
    def operations(self) -> Mapping[str, Operation]:
        """The front's own operators' calls, by full method name."""

    @property
    def pages(self) -> Mapping[str, Page]:
        """Web pages by path, on the metrics port."""

    @property
    def trouble(self) -> str:
        """Why changes of modes by other servers do not come into effect here; "" where they do."""

    def samples(self) -> Iterable[Sample | Distribution]:
        """The front's metrics at this moment."""

    def start(self, loop: AbstractEventLoop) -> None:
        """Starts answering. loop: the event loop of the answers."""

    def quiet_s(self) -> float:
        """Seconds since the last call of a method in `answers`; inf where there was none."""

    def stop(self, grace_s: float) -> None:
        """Stops; called after the last call."""


# Makes a front. Arguments: settings, the model's answers by full method name, the surfaces served now, observers.
ConnectFront = Callable[
    ["ServerConfig", Mapping[str, Answer], Callable[[], Collection[str]], Sequence[Observer]], Front
]
