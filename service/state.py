"""Opens state shared by servers, in the place that a setting names: a file, or Redis."""

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
    """The part of Shared that begin() uses."""

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
    """Opens a shared state, without reading it.

    place: path of a file, or redis://HOST:6379/0/PREFIX (rediss://, unix://). on_write: called with each state written
    here. copies: folder of local copies of the states in Redis. Raises InvalidConfig where the place is invalid, or
    redis is not installed.
    """
    if is_redis(place):
        from meshfold.service.state_redis import RedisState

        return RedisState(place, kind, on_write, copies)
    return LoggedFile(Path(place), kind, on_write)


def begin(place: Begun[Covariant], without: str) -> tuple[Covariant | None, str]:
    """The state that a server begins with, and what is wrong with the place ("" for nothing).

    Where the place does not answer, the state is this machine's local copy; None without one. without: the effect of
    having none, for the log. Raises InvalidConfig where the content of the place cannot be decoded.
    """
    try:
        return place.read(), ""
    except Unreachable as error:
        effect = "the last state that this machine saw is in effect" if place.is_seen else without
        _log.error("%s; %s", error, effect)
        return place.last, str(error)
