"""The schedule of all requests: which one is computed when, and by which threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from meshfold.model.limits import Limits
from meshfold.model.types import RequestSize
from meshfold.service.call import Call
from meshfold.service.lane import Lane, LaneLimits, Ticket
from meshfold.service.niceness import BACKGROUND, be_nicer
from meshfold.service.price import price_s, usual_price_s
from meshfold.service.service_times import ServiceTimes
from meshfold.service.work import Adapter, Request, Work, answer

# A request is heavy, and runs in the background, where its price exceeds _HEAVY_TIMES that of a usual request and it is
# expected to take longer than _HEAVY_S seconds. Prices do not depend on the load.
_HEAVY_TIMES, _HEAVY_S = 3.0, 0.025
# Seconds between measurements of the event loop's delay, and turns of the loop that an answer waits for.
_LOOK_S, _TURNS = 0.02, 3
# Weight of a shadow request in the background lane, where a caller's heavy request has weight 1.
_SHADOW_WEIGHT = 0.25
# Threads that parse large messages, and the bytes from which a message is large: smaller ones take microseconds.
_SCANNERS, _LARGE_BYTES = 1, 64 << 10


# Resolves a batch. Arguments: service times to correct, a clock, the batch, whether no other request runs or waits.
Answer = Callable[[ServiceTimes, Callable[[], float], Sequence[Ticket], bool], None]


class Scheduler:
    """Two lanes: one for callers' usual requests, and a background lane of one thread for heavy requests and shadows.

    So slow requests never occupy the threads that usual requests wait for.
    """

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
        self.callers = Lane(
            "worker", workers, max_batch, limits, self._run, on_start, max_running_per_surface
        )
        self.background = Lane("background", 1, 1, limits, self._run, partial(_in_background, on_start))
        self._scanners = ThreadPoolExecutor(_SCANNERS, "meshfold-scanner")
        self._last_s = float("-inf")

    async def watch(self) -> None:
        """Measures the delay of the event loop, for ever. Each answer passes through the loop _TURNS times."""
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
        """Returns the bytes of the answer.

        query: the decoded message with its user filled in; None to have a worker decode the message. more_bytes: memory
        of the query besides the message.

        Raises the errors of preparing and running the request, and Overloaded where it cannot end in time.
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
        """Seconds since the last request; inf where there was none."""
        return time.monotonic() - self._last_s

    def close(self) -> None:
        """Refuses all further requests."""
        for lane in (self.callers, self.background):
            lane.close()

    def stop(self, grace_s: float) -> None:
        """Answers the waiting requests that end within grace_s, refuses the rest."""
        # Closes both lanes first, so that neither admits requests while the other stops.
        self.close()
        end_s = time.monotonic() + grace_s
        for lane in (self.callers, self.background):
            lane.stop(max(0.0, end_s - time.monotonic()))
        self._scanners.shutdown(wait=False)


def _in_background(on_start: Callable[[], None]) -> None:
    be_nicer(BACKGROUND)
    on_start()
