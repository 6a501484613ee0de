"""Opens state that servers share by the place that a setting names: a file, or Redis."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from meshfold.service.redis_place import is_redis
from meshfold.service.state_copy import COPIES
from meshfold.service.state_kind import Shared, State, StateKind, Unreachable
from meshfold.service.state_log import LoggedFile

_log = logging.getLogger(__name__)

Covariant = TypeVar("Covariant", covariant=True)


class Begun(Protocol[Covariant]):
    """What begin() asks of a Shared."""

    @property
    def last(self) -> Covariant | None: ...

    @property
    def is_seen(self) -> bool: ...

    def read(self) -> Covariant | None: ...


def open_state(
    place: str,
    kind: StateKind[State],
    on_write: Callable[[State], None] = lambda _: None,
    copies: Path = COPIES,
) -> Shared[State]:
    """place: the path of a file, or redis://HOST:6379/0/PREFIX (rediss://, unix://). on_write: called with each state
    that was written here. copies: folder of the last states that were seen in Redis.

    Reads nothing yet. Raises InvalidConfig where the place is none, or redis is not installed.
    """
    if is_redis(place):
        from meshfold.service.state_redis import RedisState

        return RedisState(place, kind, on_write, copies)
    return LoggedFile(Path(place), kind, on_write)


def begin(place: Begun[Covariant], without: str) -> tuple[Covariant | None, str]:
    """What a server begins with, and what is wrong with the place; "" for nothing. Where it does not answer, that is
    the last state that this machine saw; None where it saw none. without: what that means, for the log.

    Raises InvalidConfig where the place answers with what is no state.
    """
    try:
        return place.read(), ""
    except Unreachable as error:
        effect = "the last state that this machine saw is in effect" if place.is_seen else without
        _log.error("%s; %s", error, effect)
        return place.last, str(error)
