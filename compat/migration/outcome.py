"""What became of a call, for those who count and record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import grpc

from meshfold.compat.migration.modes import Mode
from meshfold.compat.migration.sides import Metadata, Reply, Side


class Call(Protocol):
    """A whole request and what its answer carries besides bytes.

    message: the request's bytes. deadline_s: on time.monotonic()'s clock. metadata: the caller's. initial, trailing:
    metadata of the answer, set while it is made.
    """

    message: bytes
    deadline_s: float
    metadata: Metadata
    initial: Metadata
    trailing: Metadata


class Errors(Protocol):
    """Where a server's errors become statuses."""

    def code_of(self, error: Exception, /) -> grpc.StatusCode: ...

    def log_failure(self, what: str, error: BaseException, /) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """reply: None where the side failed. code: its status. took_s: how long it was asked."""

    side: Side
    reply: Reply | None
    code: grpc.StatusCode
    took_s: float


@dataclass(frozen=True)
class Answered:
    """What a caller got.

    number: of the call, counted by the server. surface: a known one, else "other". outcome: of the side that the
    caller's answer or status is from. fallback: the name of the status with which the side that was asked first failed;
    "" where it is the one that answered. took_s: the caller's whole time in the proxy.
    """

    number: int
    surface: str
    mode: Mode
    message: bytes
    outcome: Outcome
    fallback: str
    took_s: float


class Observer(Protocol):
    """Told of every call, from many threads, on the caller's path: it must neither wait nor raise."""

    def answered(self, answered: Answered, /) -> None: ...

    def shadowed(self, answered: Answered, shadow: Outcome, /) -> None:
        """The other side's outcome for the same request."""


class Observers:
    """Several as one."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def answered(self, answered: Answered) -> None:
        for observer in self._observers:
            observer.answered(answered)

    def shadowed(self, answered: Answered, shadow: Outcome) -> None:
        for observer in self._observers:
            observer.shadowed(answered, shadow)
