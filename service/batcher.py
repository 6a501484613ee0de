"""Gathers the requests that wait and runs them together, on a thread that alone touches the device."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import inf
from typing import Any, TypeVar

from meshfold.model.errors import DeadlineExceeded, Overloaded
from meshfold.service.errors import log_failure

Q = TypeVar("Q")
R = TypeVar("R")

# How long a stop waits for the batch that runs when its grace is over.
_LAST_BATCH_S = 1.0

# Answers a batch of queries, one result a query, in their order.
Run = Callable[[Sequence[Q]], Sequence[R]]


@dataclass(frozen=True, eq=False)
class _Waiting:
    run: Run[Any, Any]
    query: Any
    deadline_s: float
    plan: Hashable
    answer: Future[Any] = field(default_factory=Future)


class Batcher:
    """A bounded queue and the threads that empty it; one for what only one thread may run.

    A thread takes what waits for the same function and has the same plan as the oldest request, up to max_batch,
    and never waits to fill a batch. A method of two runners is two functions, as are two methods of one. Requests
    whose caller left or whose deadline passed are dropped before they cost anything.
    """

    def __init__(self, max_batch: int, queue_limit: int, threads: int = 1) -> None:
        self._max_batch = max_batch
        self._queue_limit = queue_limit
        self._queue: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._last_s = -inf
        self._threads = [
            threading.Thread(target=self._work, name=f"meshfold-batcher-{i}", daemon=True)
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def admit(self) -> None:
        """Raises Overloaded where submit would: worth asking before a request is decoded."""
        if self._stopping:
            raise Overloaded("the server is stopping; ask another")
        if len(self._queue) >= self._queue_limit:
            raise Overloaded(f"{self._queue_limit} requests wait already; try again later")
        self._last_s = time.monotonic()

    def submit(self, run: Run[Q, R], query: Q, deadline_s: float, plan: Hashable = None) -> Future[R]:
        """What `run` will answer for a batch that holds the query.

        deadline_s: on time.monotonic()'s clock; inf for none. plan: whatever equals those of queries that are worth
        running together. Raises Overloaded.
        Cancelling the future takes the request out of the queue.
        """
        waiting = _Waiting(run, query, deadline_s, plan)
        with self._changed:
            self.admit()
            self._queue.append(waiting)
            self._changed.notify()
        return waiting.answer

    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    def quiet_s(self) -> float:
        """Seconds since the last request was admitted; inf where none was."""
        return time.monotonic() - self._last_s

    def stop(self, grace_s: float) -> None:
        """Takes no more, answers what waits within grace_s, cancels the rest."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._join(grace_s)
        with self._changed:
            while self._queue:
                self._queue.popleft().answer.cancel()
        self._join(_LAST_BATCH_S)

    def _join(self, within_s: float) -> None:
        end_s = time.monotonic() + within_s
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))

    def _work(self) -> None:
        while batch := self._take():
            _answer(batch)
            batch.clear()  # holds on to no runner while waiting: a replaced one must be freed

    def _take(self) -> list[_Waiting]:
        """The next batch; empty when stopping and nothing waits."""
        batch: list[_Waiting] = []
        with self._changed:
            while not batch:
                while not self._queue:
                    if self._stopping:
                        return []
                    self._changed.wait()
                self._gather(batch)
        return batch

    def _gather(self, batch: list[_Waiting]) -> None:
        """Moves requests for one function from the queue into the batch; those of others keep their order."""
        others: list[_Waiting] = []
        now_s = time.monotonic()
        while self._queue and len(batch) < self._max_batch:
            waiting = self._queue.popleft()
            if batch and (waiting.run != batch[0].run or waiting.plan != batch[0].plan):
                others.append(waiting)
            elif not waiting.answer.set_running_or_notify_cancel():
                continue
            elif waiting.deadline_s <= now_s:
                waiting.answer.set_exception(DeadlineExceeded("the deadline passed while the request waited"))
            else:
                batch.append(waiting)
        self._queue.extendleft(reversed(others))


def _answer(batch: Sequence[_Waiting]) -> None:
    """Resolves every future of the batch. Where a batch fails, each query runs alone: one costs one."""
    try:
        results = batch[0].run([waiting.query for waiting in batch])
        if len(results) != len(batch):
            raise RuntimeError(f"{len(results)} results for {len(batch)} queries")
    except Exception as error:
        if len(batch) == 1:
            batch[0].answer.set_exception(error)
            return
        log_failure(f"a batch of {len(batch)} failed and runs again one by one", error)
        for waiting in batch:
            _answer([waiting])
    else:
        for waiting, result in zip(batch, results, strict=True):
            waiting.answer.set_result(result)
