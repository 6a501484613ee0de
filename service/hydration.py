"""Where a request's user is filled in: between decoding and the queue, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from meshfold.model.types import FeatureList, Query, RequestSize, User

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from meshfold.service.front import Distribution, Sample

# Of a string in memory, besides its characters.
_STRING_BYTES = 49


class Hydrate(Protocol):
    """Fills in the users of one surface."""

    async def hydrate(self, query: Query, deadline_s: float, /) -> Query:
        """The query with its user's history and features; the same object where nothing was filled in.

        deadline_s: on time.monotonic()'s clock. A source that fails costs a caller no error, unless the settings of the
        surface say so: then UnknownName for a user that the source has not, Unavailable for a source that failed.
        """

    def refused(self, came: Query, /) -> None:
        """What was filled in does not fit the model. came: the query before. Raises Unavailable where the settings make
        that an error."""


class Hydration(Protocol):
    """Of all surfaces of a server."""

    def of(self, surface: str, /) -> Hydrate | None:
        """None where users of the surface are not filled in."""

    def start(self) -> None: ...

    def stop(self, loop: AbstractEventLoop, /) -> None:
        """After the last call. loop: that ran the lookups."""

    def samples(self) -> Iterable[Sample | Distribution]: ...


# From a file of settings. Raises InvalidConfig.
OpenHydration = Callable[[Path], Hydration]


def hydrated_size(size: RequestSize, query: Query) -> RequestSize:
    """A request's size with what was filled in: what the request costs now."""
    return replace(
        size,
        history=len(query.history),
        features=len(query.features),
        feature_values=sum(map(len, query.features.values())),
    )


def user_bytes(user: User) -> int:
    """Bytes of memory that a user's history and features take."""
    return sum(map(_bytes, (user.history, *user.features.values())))


def _bytes(values: FeatureList) -> int:
    if isinstance(values, np.ndarray):
        return values.nbytes
    return sum(len(value) + _STRING_BYTES for value in values)
