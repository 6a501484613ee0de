"""The interface of sources of users."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol

from meshfold.model.types import User
from meshfold.service.front import Sample


class Reason(StrEnum):
    """Why a lookup failed."""

    # No answer came within the deadline.
    LATE = "late"
    # There was no connection, or the source answered with an error.
    DOWN = "down"
    # The source's answer cannot be decoded.
    GARBAGE = "garbage"
    # The source's answer has more bytes than `max_bytes`.
    LARGE = "large"
    # `concurrency` lookups were running already.
    FULL = "full"
    # The lookup was not made, since too many failed just before.
    PAUSED = "paused"
    # The model refuses the user's data, such as ids of the wrong kind.
    UNFIT = "unfit"


class Failed(Exception):
    """A failed lookup. The text contains no id and no data of a user."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Source(Protocol):
    """A source of users. All methods except `start` run on the event loop."""

    async def user(self, user_id: int | str, /) -> User | None:
        """Looks a user up; None where the source lacks it. Raises Failed."""

    def start(self) -> None:
        """Starts threads, if any. Callable from any thread."""

    async def stop(self) -> None: ...

    def samples(self, surface: str, /) -> Iterable[Sample]:
        """The source's metrics, besides those of lookups."""
