"""What a source of users is to the rest of the room."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol

from meshfold.model.types import User
from meshfold.service.front import Sample


class Reason(StrEnum):
    """Why a lookup failed."""

    # No answer within the deadline.
    LATE = "late"
    # No connection, or the source answered with an error.
    DOWN = "down"
    # The source's answer does not decode.
    GARBAGE = "garbage"
    # The source's answer has more bytes than `max_bytes`.
    LARGE = "large"
    # `concurrency` lookups were on their way already.
    FULL = "full"
    # Too many lookups failed just now: this one was not made.
    PAUSED = "paused"
    # The model refuses what the source holds, such as ids of another kind.
    UNFIT = "unfit"


class Failed(Exception):
    """A lookup without a result. The text names no user and quotes no value of one."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Source(Protocol):
    """Where users are kept. Its methods are the event loop's, save `start`."""

    async def user(self, user_id: int | str, /) -> User | None:
        """What is kept of a user; None where the source has no such user. Raises Failed."""

    def start(self) -> None:
        """Starts threads, if it has any. From any thread."""

    async def stop(self) -> None: ...

    def samples(self, surface: str, /) -> Iterable[Sample]:
        """What it shows of itself besides lookups."""
