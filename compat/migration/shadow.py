"""The side that does not answer is asked too, out of the callers' way."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import grpc

from meshfold.compat.migration.bounded_queue import BoundedQueue
from meshfold.compat.migration.outcome import Answered, Errors, Observer, Outcome
from meshfold.compat.migration.sides import SHADOW, Bounded, Mesh, Metadata, Model, Side, Unattended


@dataclass(frozen=True)
class ShadowSettings:
    """queue_limit, queue_bytes: what waits at most; more is dropped. timeout_s: for each shadow's answer."""

    queue_limit: int
    queue_bytes: int
    timeout_s: float
    threads: int


class Shadow:
    """A bounded queue and a few threads that empty it.

    They begin once the caller has its answer. What they meet, errors and slowness, ends with the observer.
    """

    def __init__(
        self, sides: Mapping[Side, Model | Mesh], settings: ShadowSettings, observer: Observer, errors: Errors
    ) -> None:
        self._sides = sides
        self._timeout_s = settings.timeout_s
        self._observer = observer
        self._errors = errors
        self.queue: BoundedQueue[tuple[Answered, Metadata]] = BoundedQueue(
            settings.queue_limit, settings.queue_bytes
        )
        self._threads = [
            threading.Thread(target=self._work, name=f"meshfold-shadow-{i}", daemon=True)
            for i in range(settings.threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def offer(self, answered: Answered, metadata: Metadata) -> None:
        """Never waits. metadata: the caller's, as the mesh gets it."""
        reply = answered.outcome.reply
        self.queue.offer((answered, metadata), len(answered.message) + (len(reply.message) if reply else 0))

    def stop(self, grace_s: float) -> None:
        """Drops what waits; gives what runs up to grace_s."""
        self.queue.clear()
        self.queue.close()
        end_s = time.monotonic() + grace_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, end_s - time.monotonic()))

    def _work(self) -> None:
        while taken := self.queue.take():
            answered, metadata = taken
            self._observer.shadowed(answered, self._ask(answered, metadata))
            # Holds on to no request while waiting.
            del taken, answered, metadata

    def _ask(self, answered: Answered, metadata: Metadata) -> Outcome:
        side = answered.outcome.side.other
        start_s = time.monotonic()
        caller = Bounded(Unattended(), start_s + self._timeout_s)
        try:
            reply = self._sides[side].ask(answered.message, (*metadata, (SHADOW, "1")), caller)
        except Exception as error:
            code = self._errors.code_of(error)
            if code is grpc.StatusCode.INTERNAL and side is Side.MODEL:
                self._errors.log_failure("the model failed as a shadow", error)
            return Outcome(side, None, code, time.monotonic() - start_s)
        return Outcome(side, reply, grpc.StatusCode.OK, time.monotonic() - start_s)
