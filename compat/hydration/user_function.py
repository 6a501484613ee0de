"""Users from a Python function: MODULE:NAME, called with a user's id."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from meshfold.compat.hydration.contents import user_of
from meshfold.compat.hydration.settings import Settings
from meshfold.compat.hydration.source import Failed, Reason
from meshfold.model.errors import InvalidConfig
from meshfold.model.types import User
from meshfold.service.errors import log_failure
from meshfold.service.front import Sample

# Most characters of an error of the operator's function.
_MOST_TEXT = 400
# Seconds between lines of the log about failures.
_LOG_S = 10.0

_Job = tuple[int | str, asyncio.AbstractEventLoop, asyncio.Future[Any]]


class UserFunction:
    """A Source from a function. An `async def` runs on the event loop, any other function on threads of its own.

    The function returns None for an unknown user, else the argument of contents.user_of.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        """folder: searched first for modules. Raises InvalidConfig."""
        self._function = _function(settings.function, folder)
        self._is_async = inspect.iscoroutinefunction(self._function)
        # Most jobs, including those whose callers left: a function that hangs must not collect them without bound.
        self._most = settings.concurrency
        self._logged_s = float("-inf")
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        # Daemon threads, so that a function that hangs does not keep the process from ending.
        self._threads = [
            threading.Thread(target=self._work, name=f"meshfold-hydration-{i}", daemon=True)
            for i in range(0 if self._is_async else settings.threads)
        ]

    async def user(self, user_id: int | str) -> User | None:
        try:
            found = await (self._function(user_id) if self._is_async else self._in_thread(user_id))
        except (Failed, TimeoutError):
            raise
        except Exception as error:
            now_s = time.monotonic()
            if now_s - self._logged_s > _LOG_S:
                self._logged_s = now_s
                log_failure("the function of hydration failed", error)
            raise Failed(Reason.DOWN, f"the function raised {type(error).__name__}") from None
        return None if found is None else user_of(found)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    async def stop(self) -> None:
        for _ in self._threads:
            self._jobs.put(None)

    def samples(self, surface: str) -> Iterable[Sample]:
        return ()

    async def _in_thread(self, user_id: int | str) -> Any:
        if self._jobs.qsize() >= self._most:
            raise Failed(Reason.FULL, f"{self._most} calls of the function wait")
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Any] = loop.create_future()
        self._jobs.put((user_id, loop, result))
        return await result

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            user_id, loop, result = job
            if result.cancelled():
                continue
            resolve: Callable[[], None]
            try:
                found = self._function(user_id)
            except Exception as error:
                resolve = _resolving(result, result.set_exception, error)
            else:
                resolve = _resolving(result, result.set_result, found)
            try:
                loop.call_soon_threadsafe(resolve)
            except RuntimeError:
                # A closed loop has no callers to answer.
                return


def _resolving(result: asyncio.Future[Any], set_: Callable[[Any], None], value: Any) -> Callable[[], None]:
    def resolve() -> None:
        if not result.done():
            set_(value)

    return resolve


def _function(place: str, folder: Path) -> Callable[[Any], Any]:
    module, _, name = place.partition(":")
    if not module or not name:
        raise InvalidConfig(f"hydrate.*.function must be MODULE:NAME, got {place!r}")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split())
        raise InvalidConfig(
            f"hydrate.*.function: {module} cannot be imported ({type(error).__name__}: {reason:.{_MOST_TEXT}}); put it"
            f" into {folder} or on PYTHONPATH"
        ) from None
    function = getattr(found, name, None)
    if not callable(function):
        raise InvalidConfig(f"hydrate.*.function: {module} has no function {name}")
    return function  # type: ignore[no-any-return]
