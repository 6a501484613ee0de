"""The interface of hydration, which fills in a request's user between decoding and the queue."""

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

# Bytes of a Python string besides its characters.
_STRING_BYTES = 49


class Hydrate(Protocol):
    """Fills in the users of one surface."""

    async def hydrate(self, query: Query, deadline_s: float, /) -> Query:
        """Fills in the user's history and features; returns the same object where nothing was filled in.

        deadline_s: on time.monotonic()'s clock. A source that fails raises an error only where the settings of the
        surface demand it: UnknownName for a user that the source lacks, Unavailable for a source that failed.
        """

    def refused(self, came: Query, /) -> None:
        """Reports that the model refused the filled-in user. came: the query as received. Raises Unavailable where the
        settings make that an error."""


class Hydration(Protocol):
    """Hydration of all surfaces of a server."""

    def of(self, surface: str, /) -> Hydrate | None:
        """The hydration of a surface; None where its users are not filled in."""

    def start(self) -> None: ...

    def stop(self, loop: AbstractEventLoop, /) -> None:
        """Stops; called after the last call. loop: the event loop of the lookups."""

    def samples(self) -> Iterable[Sample | Distribution]: ...


# Opens hydration from a file of settings. Raises InvalidConfig.
OpenHydration = Callable[[Path], Hydration]


def hydrated_size(size: RequestSize, query: Query) -> RequestSize:
    """The size of a request with its user filled in, by which its cost is priced."""
    return replace(
        size,
        history=len(query.history),
        features=len(query.features),
        feature_values=sum(map(len, query.features.values())),
    )


def user_bytes(user: User) -> int:
    """Bytes of memory of a user's history and features."""
    return sum(map(_bytes, (user.history, *user.features.values())))


def _bytes(values: FeatureList) -> int:
    if isinstance(values, np.ndarray):
        return values.nbytes
    return sum(len(value) + _STRING_BYTES for value in values)
