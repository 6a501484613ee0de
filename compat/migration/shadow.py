"""Shadow calls to the side that does not answer the caller, off the callers' path."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import grpc

from meshfold.compat.migration.bounded_queue import BoundedQueue
from meshfold.compat.migration.methods import RETRIEVE
from meshfold.compat.migration.sides import SHADOW, Mesh, Model, Request
from meshfold.service.call import Metadata, metadata_bytes
from meshfold.service.errors import code_of, log_failure
from meshfold.service.front import Answered, Observer, Outcome, Side
from meshfold.service.migration import MigrationConfig

# Called with a shadowed call, the shadow's outcome, and the caller's metadata as sent to the mesh. Must neither wait
# nor raise.
Compare = Callable[[Answered, Outcome, Metadata], None]


def uncompared(answered: Answered, shadow: Outcome, metadata: Metadata) -> None:
    """Does nothing; for servers without a comparison."""


class Shadow:
    """A bounded queue of shadow calls, and tasks that make them. All methods run on the loop.

    A shadow starts after the caller has its answer. Its errors and delays affect no caller.
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
        self.queue: BoundedQueue[tuple[Answered, Metadata]] = BoundedQueue(config.shadow_queue)
        self._offered = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self._config.shadow_threads)]

    def offer(self, answered: Answered, metadata: Metadata) -> None:
        """Queues a call to shadow, or drops it. metadata: the caller's, as sent to the mesh."""
        reply = answered.outcome.reply
        reply_bytes = reply.size_bytes if reply else 0
        size_bytes = len(answered.message) + metadata_bytes(metadata) + reply_bytes
        self.queue.offer((answered, metadata), size_bytes)
        self._offered.set()

    def compare(self, answered: Answered, failed: Outcome, metadata: Metadata) -> None:
        """Compares a call whose first side failed, without a further call. metadata: the caller's, as sent to the
        mesh."""
        try:
            self._compare(answered, failed, metadata)
        except Exception as error:  # an error must not cost the caller its answer
            log_failure("a failure could not be compared", error)

    async def stop(self, grace_s: float) -> None:
        """Drops waiting calls; gives running ones up to grace_s."""
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
            except Exception as error:  # an error must not cost the next shadow
                log_failure("a shadow could not be recorded", error)
            # Drops its references to requests before it waits.
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
