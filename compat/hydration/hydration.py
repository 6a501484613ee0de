"""Hydration of all surfaces, each with its source of users."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from meshfold.compat.hydration.settings import Settings, read_settings
from meshfold.compat.hydration.source import Source
from meshfold.compat.hydration.surface import HydratedSurface
from meshfold.service.front import Distribution, Sample

# Seconds that a stop waits for connections to close.
_STOP_S = 1.0


def open_hydration(path: Path) -> Hydration:
    """Opens hydration from a file of settings: loads files and imports functions. Raises InvalidConfig."""
    return Hydration(
        {
            name: HydratedSurface(name, each, _source(each, path.resolve().parent))
            for name, each in read_settings(path).items()
        }
    )


class Hydration:
    """The implementation of Hydration in service/hydration.py."""

    def __init__(self, surfaces: Mapping[str, HydratedSurface]) -> None:
        self._surfaces = surfaces

    def of(self, surface: str) -> HydratedSurface | None:
        return self._surfaces.get(surface)

    def start(self) -> None:
        for each in self._surfaces.values():
            each.source.start()

    def stop(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), loop).result()

    def samples(self) -> Iterator[Sample | Distribution]:
        for each in self._surfaces.values():
            yield from each.samples()

    async def _stop(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                stops = (each.source.stop() for each in self._surfaces.values())
                await asyncio.gather(*stops, return_exceptions=True)


def _source(settings: Settings, folder: Path) -> Source:
    # Sources are imported when used: Redis is an extra, and parsing the command line needs none of them.
    if settings.file:
        from meshfold.compat.hydration.user_file import UserFile

        return UserFile(settings)
    if settings.redis:
        from meshfold.compat.hydration.user_redis import UserRedis

        return UserRedis(settings)
    from meshfold.compat.hydration.user_function import UserFunction

    return UserFunction(settings, folder)
