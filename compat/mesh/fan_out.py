"""Answers the orchestrator's calls on threads that wait for the other services."""

from __future__ import annotations

import asyncio
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from meshfold.model.errors import InvalidQuery
from meshfold.model.limits import Limits, check
from meshfold.service.call import Call
from meshfold.service.scheduler import Scheduler
from meshfold.service.shares import Shares
from meshfold.service.versions import Versions

# Most running calls, and most waiting ones.
_THREADS, _WAITING = 192, 512


class FanOut:
    """The Answer of the orchestrator's method. Its versions contain Orchestrators."""

    def __init__(self, adapter: Any, versions: Versions, scheduler: Scheduler, limits: Limits) -> None:
        """adapter: compat/mesh/orchestrator.py. scheduler: only measures requests."""
        self._adapter = adapter
        self._versions = versions
        self._scheduler = scheduler
        self._limits = limits
        self._threads = ThreadPoolExecutor(_THREADS, "meshfold-fan-out")
        self._waiting = Shares(_WAITING)

    async def __call__(self, call: Call) -> bytes:
        await self._scheduler.measure(self._adapter, call.message, self._limits)
        left = threading.Event()
        with self._waiting.held(call.peer, "requests wait"):
            try:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, self._answer, call, left)
            finally:
                left.set()

    def _answer(self, call: Call, left: threading.Event) -> bytes:
        asked = self._adapter.decode(call.message)
        try:
            check(asked.query, self._limits)
        except InvalidQuery as error:
            raise InvalidQuery(self._adapter.path(asked, error.path), error.message) from None
        surface: Any = self._versions.runner(asked.query.surface)
        deadline_s = call.deadline_s if call.has_deadline else math.inf
        answer: bytes = surface.retrieve(asked, deadline_s, lambda: not left.is_set())
        return answer
