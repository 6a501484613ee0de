"""Which requests are computed, when, and by which threads."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from meshfold.model.limits import Limits
from meshfold.model.types import RequestSize
from meshfold.service.call import Call
from meshfold.service.lane import Lane, LaneLimits, Ticket
from meshfold.service.price import price_s, usual_price_s
from meshfold.service.service_times import ServiceTimes
from meshfold.service.work import Adapter, Request, Work, answer

# A request runs in the background where its price is so many times that of a usual one, and it takes longer than so
# many seconds. Prices do not depend on what else runs.
_HEAVY_TIMES, _HEAVY_S = 3.0, 0.025
# How much the background thread leaves to others; 0 is usual, 19 the least. It holds Python's lock at times, which the
# least would do for long.
_NICE = 5
# Between looks at how late the loop is, and how often an answer waits for its turn there.
_LOOK_S, _TURNS = 0.02, 3
# Of a shadow's share beside callers' heavy requests.
_SHADOW_WEIGHT = 0.25
# Threads that count the fields of large messages, and what counts as large: smaller ones take microseconds.
_SCANNERS, _LARGE_BYTES = 1, 64 << 10


# Given: expectations to correct, a clock, the batch, and whether nothing else runs or waits.
Answer = Callable[[ServiceTimes, Callable[[], float], Sequence[Ticket], bool], None]


class Scheduler:
    """Two lanes: one for callers' usual requests, and a single thread in the background for heavy requests and shadows,
    so that what is slow never holds the threads that callers with usual requests wait for."""

    def __init__(
        self,
        workers: int,
        max_batch: int,
        limits: LaneLimits,
        on_start: Callable[[], None] = lambda: None,
        answer: Answer = answer,
        max_running_per_surface: int = 0,
    ) -> None:
        """workers: threads of the callers' lane. on_start: called by each thread first. answer: resolves the requests
        of a batch. max_running_per_surface: most batches of one surface that run at once; 0 for as many as workers."""
        self.times = ServiceTimes()
        self._answer = answer
        self.callers = Lane("worker", workers, max_batch, limits, self._run, on_start, max_running_per_surface)
        self.background = Lane("background", 1, 1, limits, self._run, partial(_in_background, on_start))
        self._scanners = ThreadPoolExecutor(_SCANNERS, "meshfold-scanner")
        self._last_s = float("-inf")

    async def watch(self) -> None:
        """Measures how late the loop is, for ever. An answer goes through the loop some times on its way."""
        while True:
            due_s = time.monotonic() + _LOOK_S
            await asyncio.sleep(_LOOK_S)
            late_s = time.monotonic() - due_s
            for lane in (self.callers, self.background):
                lane.replied(_TURNS * late_s)

    async def measure(self, adapter: Adapter[Any, Any], message: bytes, limits: Limits) -> RequestSize:
        """The size of a request. Raises InvalidQuery where it exceeds a limit."""
        self._last_s = time.monotonic()
        if len(message) < _LARGE_BYTES:
            return adapter.measure(message, limits)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._scanners, adapter.measure, message, limits)

    async def decode(self, adapter: Adapter[Any, Any], message: bytes) -> Any:
        """The query of a request that was measured. Raises InvalidQuery."""
        if len(message) < _LARGE_BYTES:
            return adapter.decode(message)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._scanners, adapter.decode, message)

    async def run(
        self, work: Work, size: RequestSize, call: Call, query: Any = None, more_bytes: int = 0
    ) -> bytes:
        """The answer's bytes.

        query: the message decoded, with its user filled in; None for a worker to decode the message. more_bytes: of
        memory, that the query holds besides the message.

        Raises what preparing and running the request raises, Overloaded where it cannot end in time.
        """
        loop = asyncio.get_running_loop()
        runner, shadow = work.runner, call.is_shadow
        price = price_s(size, runner.items, runner.candidates)
        usual_s = usual_price_s(runner.items, runner.candidates)
        is_dear = price > _HEAVY_TIMES * usual_s
        kind: Hashable = (runner.surface, work.adapter.METHOD, is_dear, shadow)
        expected = self.times.expected(kind, price)
        heavy = is_dear and expected.mean_s > _HEAVY_S
        flow: Hashable = (runner.surface, shadow)
        lane = self.background if heavy or shadow else self.callers
        request = Request(
            work,
            call.message,
            flow,
            kind,
            price,
            expected,
            call.deadline_s,
            loop,
            loop.create_future(),
            _SHADOW_WEIGHT if shadow else 1.0,
            query=query,
            more_bytes=more_bytes,
            is_background=lane is self.background,
        )
        lane.submit(request)
        try:
            async with asyncio.timeout(max(0.0, call.left_s())):
                return await request.answer
        finally:
            if not request.answer.done() or request.answer.cancelled():
                request.leave()
                lane.withdraw(request)

    def _run(self, batch: Sequence[Ticket]) -> None:
        busy = self.callers.busy() + self.background.busy()
        self._answer(self.times, time.monotonic, batch, busy == 1 and not self.waiting())

    def waiting(self) -> int:
        """Requests in the queues."""
        return self.callers.waiting() + self.background.waiting()

    def quiet_s(self) -> float:
        """Seconds since the last request came; inf where none did."""
        return time.monotonic() - self._last_s

    def close(self) -> None:
        """Admits nothing from now on."""
        for lane in (self.callers, self.background):
            lane.close()

    def stop(self, grace_s: float) -> None:
        """Answers what waits within grace_s, refuses the rest."""
        # Neither lane admits anything while the other is waited for.
        self.close()
        end_s = time.monotonic() + grace_s
        for lane in (self.callers, self.background):
            lane.stop(max(0.0, end_s - time.monotonic()))
        self._scanners.shutdown(wait=False)


def _in_background(on_start: Callable[[], None]) -> None:
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
    on_start()
