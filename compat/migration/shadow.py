"""The side that does not answer is asked too, out of the callers' way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import grpc

from meshfold.compat.migration.bounded_queue import BoundedQueue
from meshfold.compat.migration.methods import RETRIEVE
from meshfold.compat.migration.sides import SHADOW, Mesh, Model, Request
from meshfold.service.call import Metadata
from meshfold.service.errors import code_of, log_failure
from meshfold.service.front import Answered, Observer, Outcome, Side
from meshfold.service.migration import MigrationConfig

# Gets a call that was shadowed, the shadow's outcome, and the caller's metadata as the mesh gets it. It neither waits
# nor raises.
Compare = Callable[[Answered, Outcome, Metadata], None]


def uncompared(answered: Answered, shadow: Outcome, metadata: Metadata) -> None:
    """Where nothing is compared."""


class Shadow:
    """A bounded queue and a few tasks that empty it. Its methods are the loop's.

    They begin once the caller has its answer. What they meet, errors and slowness, ends with the observer.
    """

    def __init__(
        self,
        sides: Mapping[Side, Model | Mesh],
        config: MigrationConfig,
        observer: Observer,
        compare: Compare = uncompared,
    ) -> None:
        self._sides = sides
        self._config = config
        self._observer = observer
        self._compare = compare
        self.queue: BoundedQueue[tuple[Answered, Metadata]] = BoundedQueue(
            config.shadow_queue, config.shadow_queue_bytes
        )
        self._offered = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self._config.shadow_threads)]

    def offer(self, answered: Answered, metadata: Metadata) -> None:
        """Never waits. metadata: the caller's, as the mesh gets it."""
        reply = answered.outcome.reply
        self.queue.offer((answered, metadata), len(answered.message) + (len(reply.message) if reply else 0))
        self._offered.set()

    def compare(self, answered: Answered, failed: Outcome, metadata: Metadata) -> None:
        """A call whose other side was asked before, and failed. metadata: the caller's, as the mesh gets it."""
        try:
            self._compare(answered, failed, metadata)
        except Exception as error:  # the caller's answer is not to be lost for it
            log_failure("a failure could not be compared", error)

    async def stop(self, grace_s: float) -> None:
        """Drops what waits; gives what runs up to grace_s."""
        self.queue.clear()
        self.queue.close()
        self._offered.set()
        if not self._tasks:
            return
        _, running = await asyncio.wait(self._tasks, timeout=grace_s)
        for task in running:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _work(self) -> None:
        while not self.queue.over:
            taken = self.queue.take(0)
            if taken is None:
                self._offered.clear()
                await self._offered.wait()
                continue
            answered, metadata = taken
            outcome = await self._ask(answered, metadata)
            try:
                self._observer.shadowed(answered, outcome)
                self._compare(answered, outcome, metadata)
            except Exception as error:  # the next shadow is not to be lost for it
                log_failure("a shadow could not be recorded", error)
            # Holds on to no request while it waits.
            del taken, answered, metadata

    async def _ask(self, answered: Answered, metadata: Metadata) -> Outcome:
        side = answered.outcome.side.other
        start_s = time.monotonic()
        request = Request(
            answered.method or RETRIEVE.name,
            answered.message,
            answered.surface,
            (*metadata, (SHADOW, "1")),
            start_s + self._config.shadow_timeout_s,
            is_shadow=True,
        )
        try:
            reply = await self._sides[side].ask(request)
        except Exception as error:
            code = code_of(error)
            if code is grpc.StatusCode.INTERNAL and side is Side.MODEL:
                log_failure("the model failed as a shadow", error)
            return Outcome(side, None, code, time.monotonic() - start_s)
        return Outcome(side, reply, grpc.StatusCode.OK, time.monotonic() - start_s)
