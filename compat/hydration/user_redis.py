"""Users from Redis: one key per user, whose value is JSON or a mesh.v1.UserContext (contents.py)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from meshfold.compat.hydration.contents import user_of_bytes
from meshfold.compat.hydration.settings import Settings
from meshfold.compat.hydration.source import Failed, Reason
from meshfold.model.errors import InvalidConfig
from meshfold.model.types import User
from meshfold.service.front import Sample


class UserRedis:
    """A Source from Redis. Lookups wait on the event loop, without threads. A cancelled lookup closes its
    connection."""

    def __init__(self, settings: Settings) -> None:
        """Connects with the first lookup. Raises InvalidConfig."""
        try:
            from redis.asyncio import Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
            from redis.exceptions import RedisError
        except ImportError as error:
            raise InvalidConfig(f"{error.name} is missing: pip install 'meshfold[redis]'") from None
        self._failures = (RedisError, OSError)
        self._settings = settings
        try:
            # One retry, since Redis may have closed an idle connection.
            self._client: Any = Redis.from_url(
                settings.redis,
                max_connections=settings.concurrency,
                retry=Retry(NoBackoff(), 1),
                decode_responses=False,
                protocol=2,
            )
        except ValueError:
            # The message omits the URL, which may contain a password.
            raise InvalidConfig(
                "hydrate.*.redis must be a URL such as redis://HOST:6379/0, rediss://HOST:6379/0 or unix:///PATH"
            ) from None

    async def user(self, user_id: int | str) -> User | None:
        settings = self._settings
        try:
            # Reads one byte more than allowed, to detect larger values without reading them.
            content = await self._client.getrange(
                settings.key.replace("{user}", str(user_id)), 0, settings.max_bytes
            )
        except self._failures as error:
            raise Failed(Reason.DOWN, f"Redis failed: {type(error).__name__}") from None
        if not content:
            return None
        if len(content) > settings.max_bytes:
            raise Failed(Reason.LARGE, f"a value has more than max_bytes, {settings.max_bytes}")
        return user_of_bytes(content, user_id)

    def start(self) -> None:
        pass

    async def stop(self) -> None:
        await self._client.aclose()

    def samples(self, surface: str) -> Iterable[Sample]:
        return ()
