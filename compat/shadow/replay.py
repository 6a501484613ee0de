"""A replay: sends recorded requests to running servers at a fixed rate and makes pairs of their answers.

The load is open-loop: each request has its start time, whether or not earlier requests are answered.
"""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from itertools import islice
from queue import SimpleQueue
from typing import Any

import grpc
import grpc.aio

from meshfold.compat.mesh_v1.retrieve import METHOD
from meshfold.compat.migration.sides import AGAIN, SHADOW
from meshfold.compat.shadow.answers import answer_of, failure_of
from meshfold.compat.shadow.pairs import Pair, PairSide, SideAnswer
from meshfold.model.errors import InvalidConfig, InvalidData, MeshfoldError, Unavailable
from meshfold.service.call import Metadata

# Metadata of a call whose answer no user sees, and of the mesh's second call.
_ONCE: Metadata = ((SHADOW, "1"),)
_AGAIN: Metadata = (*_ONCE, (AGAIN, "1"))

# Seconds after its start time from which a request counts as late.
LATE_S = 0.01
_READ_AT_ONCE = 64
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
)
_DAY_S = 86_400.0


@dataclass(frozen=True)
class ReplaySettings:
    """Settings of a replay.

    rate: requests per second. timeout_s: time limit of a call. in_flight: most open requests. noise: share of requests
    that are sent to the mesh a second time, at a random time up to noise_delay_s after the first answers. seed: of that
    choice.
    """

    rate: float
    timeout_s: float = 10.0
    in_flight: int = 256
    noise: float = 0.0
    noise_delay_s: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("rate", 1e-3, 1e5),
            ("timeout_s", 1e-3, _DAY_S),
            ("in_flight", 1, 1e5),
            ("noise", 0, 1),
            ("noise_delay_s", 0, _DAY_S),
        ):
            if not low <= getattr(self, name) <= high:
                raise InvalidConfig(f"{name} must be from {low:g} to {high:g}, got {getattr(self, name)}")


class Replay:
    """Sends requests to servers. sides: addresses by PairSide.MESH and PairSide.MODEL; one or both.

    asked: number of requests sent. late: number of them that started more than LATE_S after their time.
    """

    def __init__(self, sides: Mapping[PairSide, str], settings: ReplaySettings) -> None:
        """Raises InvalidConfig where no side is named, or noise is set without the mesh's side."""
        if not sides:
            raise InvalidConfig("a replay needs the address of a server")
        if settings.noise and PairSide.MESH not in sides:
            raise InvalidConfig("noise is the mesh asked twice; name the mesh's server too")
        self._addresses = dict(sides)
        self._settings = settings
        self._random = random.Random(settings.seed)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = threading.Event()
        self._stop = asyncio.Event()
        self.asked = self.late = 0

    def pairs(self, requests: Iterable[Pair]) -> Iterator[Pair]:
        """The pairs with the servers' answers, in the order in which they are complete.

        A side without an address keeps the recorded answer. Calls run on a thread of their own. Raises Unavailable
        where a server cannot be reached at the start, and the errors of `requests`.
        """
        whole: SimpleQueue[Pair | Exception | None] = SimpleQueue()
        thread = threading.Thread(target=self._run, args=(iter(requests), whole), name="meshfold-replay")
        thread.start()
        try:
            while (pair := whole.get()) is not None:
                if isinstance(pair, Exception):
                    raise pair
                yield pair
        finally:
            self.stop()
            thread.join()

    def stop(self) -> None:
        """Sends no further requests; pairs() ends with those in flight. May be called by a signal handler."""
        self._stopped.set()
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._stop.set)

    def _run(self, requests: Iterator[Pair], whole: SimpleQueue[Pair | Exception | None]) -> None:
        try:
            asyncio.run(self._ask_all(requests, whole))
        except Exception as error:
            whole.put(error)
        whole.put(None)

    async def _ask_all(self, requests: Iterator[Pair], whole: SimpleQueue[Pair | Exception | None]) -> None:
        self._loop = asyncio.get_running_loop()
        if self._stopped.is_set():
            return
        room = asyncio.Semaphore(self._settings.in_flight)
        async with AsyncExitStack() as stack:
            calls = {side: await self._connected(stack, address) for side, address in self._addresses.items()}
            unreadable: MeshfoldError | None = None
            async with asyncio.TaskGroup() as tasks:
                start_s = math.nan
                try:
                    async for pair in _read_ahead(requests):
                        if math.isnan(start_s):
                            start_s = time.monotonic()
                        due_s = start_s + self.asked / self._settings.rate
                        await self._wait(due_s - time.monotonic())
                        await room.acquire()
                        if self._stop.is_set():
                            break
                        self.asked += 1
                        tasks.create_task(self._ask(pair, due_s, calls, room, whole))
                except MeshfoldError as error:
                    # Raised after the pairs before it are complete.
                    unreadable = error
            if unreadable is not None:
                raise unreadable

    async def _connected(self, stack: AsyncExitStack, address: str) -> Any:
        """Connects to a server; returns its method. Raises Unavailable."""
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, _OPTIONS))
        ready = asyncio.ensure_future(channel.channel_ready())
        stop = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait(
            (ready, stop), timeout=self._settings.timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        for task in (ready, stop):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if ready.cancelled() and not self._stop.is_set():
            raise Unavailable(f"no server answers at {address} within {self._settings.timeout_s:g} s")
        return channel.unary_unary(METHOD)

    async def _ask(
        self,
        pair: Pair,
        due_s: float,
        calls: Mapping[PairSide, Any],
        room: asyncio.Semaphore,
        whole: SimpleQueue[Pair | Exception | None],
    ) -> None:
        is_asked_again = self._random.random() < self._settings.noise
        delay_s = self._random.uniform(0, self._settings.noise_delay_s)
        try:
            now_s = time.monotonic()
            is_late = now_s - due_s > LATE_S
            self.late += is_late
            # The latency of a late request counts from its due time, so that a stalled server is not hidden.
            from_s = due_s if is_late else now_s
            answers = await asyncio.gather(
                *(self._answer(call, pair.request, from_s, _ONCE) for call in calls.values())
            )
        finally:
            room.release()
        asked = dict(zip(calls, answers, strict=True))
        pair = replace(
            pair,
            mesh=asked.get(PairSide.MESH, pair.mesh),
            model=asked.get(PairSide.MODEL, pair.model),
            again=None,
            unix_ms=pair.unix_ms or time.time_ns() // 1_000_000,
            served_by="",
        )
        if is_asked_again:
            await self._wait(delay_s)
            if not self._stop.is_set():
                async with room:
                    again = await self._answer(calls[PairSide.MESH], pair.request, time.monotonic(), _AGAIN)
                pair = replace(pair, again=again)
        whole.put(pair)

    async def _answer(self, call: Any, message: bytes, from_s: float, metadata: Metadata) -> SideAnswer:
        """Calls a server. from_s: start of the latency, on time.monotonic()'s clock."""
        try:
            reply = await call(message, timeout=self._settings.timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return failure_of(error.code(), 1000 * (time.monotonic() - from_s))
        took_ms = 1000 * (time.monotonic() - from_s)
        try:
            return answer_of(reply, took_ms)
        except InvalidData:
            return failure_of(grpc.StatusCode.DATA_LOSS, took_ms)

    async def _wait(self, seconds: float) -> None:
        """Waits for a time, or until the replay is stopped."""
        if seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stop.wait()


async def _read_ahead(requests: Iterator[Pair]) -> AsyncIterator[Pair]:
    """Reads requests ahead on a thread, so that slow files delay no call. An error of `requests` comes in its order."""
    unreadable: MeshfoldError | None = None

    def chunk() -> list[Pair]:
        nonlocal unreadable
        pairs: list[Pair] = []
        try:
            # Not list(), which would lose the requests before an error.
            pairs.extend(islice(requests, _READ_AT_ONCE))
        except MeshfoldError as error:
            unreadable = error
        return pairs

    while unreadable is None and (pairs := await asyncio.to_thread(chunk)):
        for pair in pairs:
            yield pair
    if unreadable is not None:
        raise unreadable
