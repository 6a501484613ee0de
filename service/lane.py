"""A queue of requests and its threads, with admission by deadline and a fair share for each surface."""

from __future__ import annotations

import threading
import time
from bisect import insort
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from meshfold.model.errors import NEVER, Overloaded, Unavailable
from meshfold.service.errors import log_failure
from meshfold.service.service_times import Expected, Moving
from meshfold.service.shares import Shares

# Seconds that a stop waits for running batches after its grace.
_LAST_BATCH_S = 1.0
# Seconds reserved before a deadline for the reply, besides its measured time.
_REPLY_S = 0.002
# Fraction of the time until a deadline that admission keeps in reserve.
_RESERVE = 0.1
# Shortest expected wait, in seconds, that is compared with the real one; largest factor that corrects expected waits.
_SHORT_WAIT_S, _MOST_CORRECTION = 0.005, 4.0
# A request is short where the longest waiting request has more than this many times its work.
_SHORT_TIMES = 4
# Seconds without a measured wait after which the correction is dropped.
_FORGOTTEN_S = 5.0


class Ticket(Protocol):
    """A request in a lane.

    flow: the requests that share one turn: those of a surface, shadows apart. batch: equal for requests that may run in
    one batch. deadline_s: on time.monotonic()'s clock.
    """

    @property
    def flow(self) -> Hashable: ...

    @property
    def batch(self) -> Hashable: ...

    @property
    def expected(self) -> Expected: ...

    @property
    def deadline_s(self) -> float: ...

    @property
    def size_bytes(self) -> int: ...

    @property
    def weight(self) -> float:
        """Weight of the flow: its share of the work, relative to flows of weight 1."""

    def is_wanted(self) -> bool:
        """Whether the caller still waits."""

    def fail(self, error: Exception) -> None: ...


@dataclass(frozen=True)
class LaneLimits:
    """Limits of a lane. requests, bytes: most that wait, over all flows. wait_s: longest expected wait."""

    requests: int
    bytes: int
    wait_s: float


@dataclass(order=True)
class _Entry:
    """A waiting request. urgency_s: its place in the order of its flow. wait_s: expected at admission, uncorrected."""

    urgency_s: float
    arrival: int
    ticket: Ticket = field(compare=False)
    admitted_s: float = field(compare=False)
    wait_s: float = field(compare=False)


@dataclass(eq=False)
class _Flow:
    """Requests that share one turn. waiting: sorted by urgency. backlog_s: their expected work. served_s: the flow's
    virtual clock, work done divided by weight."""

    waiting: list[_Entry] = field(default_factory=list)
    backlog_s: float = 0.0
    served_s: float = 0.0


class Lane:
    """Admits requests that can be answered in time and refuses the others at once.

    Order within a flow: short requests first, then the request with the earliest latest start; no request is overtaken
    for longer than LaneLimits.wait_s. Order between flows: start-time fair queueing, by the work done for each. A batch
    has requests of one flow, as many as end by the earliest of their deadlines. At most max_running_per_flow batches of
    a flow run at once, which leaves threads to other flows.

    A request is refused where it could not end by its deadline, where an admitted request would then miss its deadline,
    or where it would wait longer than LaneLimits.wait_s. An idle lane admits every request.
    """

    def __init__(
        self,
        name: str,
        workers: int,
        max_batch: int,
        limits: LaneLimits,
        answer: Callable[[Sequence[Ticket]], None],
        on_start: Callable[[], None] = lambda: None,
        max_running_per_flow: int = 0,
    ) -> None:
        """workers: number of threads. answer: resolves every ticket of a batch. on_start: called first by each thread.
        max_running_per_flow: most batches of one flow that run at once; 0 for as many as there are threads."""
        self._max_batch = max_batch
        self._limits = limits
        self._answer = answer
        self._on_start = on_start
        self._max_running_per_flow = max_running_per_flow or workers
        self._flows: dict[Hashable, _Flow] = {}
        # Number of running batches, by flow.
        self._running: Counter[Hashable] = Counter()
        self._requests, self._bytes = Shares(limits.requests), Shares(limits.bytes)
        self._changed = threading.Condition()
        self._arrivals = 0
        self._served_s = 0.0
        self._stopping = False
        # Time at which each thread is expected to be free; None while it waits.
        self._busy_until_s: list[float | None] = [None] * workers
        # Ratio of real waits to expected ones, and seconds of a reply from a thread to the caller.
        self._correction, self._reply = Moving(1.0), Moving(_REPLY_S)
        self._corrected_at_s = time.monotonic()
        self.refused = self.shed = 0
        self._threads = [
            threading.Thread(target=self._work, args=(i,), name=f"meshfold-{name}-{i}", daemon=True)
            for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, ticket: Ticket) -> None:
        """Queues a request. Raises Overloaded with the time after which to retry, Unavailable once the lane stops."""
        with self._changed:
            now_s = time.monotonic()
            wait_s = self._admit(ticket, now_s)
            flow = self._flows.setdefault(ticket.flow, _Flow())
            if not flow.waiting:
                flow.served_s = max(flow.served_s, self._served_s)
            self._arrivals += 1
            insort(
                flow.waiting, _Entry(self._urgency_s(ticket, now_s), self._arrivals, ticket, now_s, wait_s)
            )
            flow.backlog_s += ticket.expected.mean_s
            self._changed.notify()

    def withdraw(self, ticket: Ticket) -> None:
        """Removes a request from the queue; does nothing where it runs already."""
        with self._changed:
            flow = self._flows.get(ticket.flow)
            for place, entry in enumerate(flow.waiting if flow else ()):
                if entry.ticket is ticket and flow is not None:
                    del flow.waiting[place]
                    self._left(ticket.flow, flow, ticket)
                    return

    def replied(self, took_s: float) -> None:
        """Records a measured reply time: seconds from a thread of the lane to the caller."""
        with self._changed:
            self._reply.observe(took_s)

    def waiting(self) -> int:
        """Requests in the queue."""
        return self._requests.used

    def busy(self) -> int:
        """Threads that answer a batch."""
        return sum(until is not None for until in self._busy_until_s)

    def close(self) -> None:
        """Refuses all further requests."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def stop(self, grace_s: float) -> None:
        """Answers the waiting requests that end within grace_s, refuses the rest and all further ones."""
        self.close()
        self._join(grace_s)
        with self._changed:
            rest = [entry.ticket for flow in self._flows.values() for entry in flow.waiting]
            self._flows.clear()
        for ticket in rest:
            ticket.fail(_stopping())
        self._join(_LAST_BATCH_S)

    def _admit(self, ticket: Ticket, now_s: float) -> float:
        """Admits a request and returns its expected wait, uncorrected. Raises Overloaded, Unavailable."""
        if self._stopping:
            raise _stopping()
        if self._is_idle(ticket.flow) and ticket.deadline_s > now_s:
            # An idle lane admits every request, which also measures the present time of such requests.
            self._count(ticket, 0.0)
            return 0.0
        expected_s, slack_s = self._expected_waits(ticket, now_s)
        wait_s = expected_s * self._corrected()
        takes_s = wait_s + ticket.expected.most_s
        if wait_s > self._limits.wait_s:
            raise self._overloaded(
                f"{wait_s * 1000:.0f} ms of work wait already", wait_s - self._limits.wait_s / 2
            )
        if now_s + wait_s > self._latest_admission_s(ticket, now_s):
            raise self._overloaded(
                f"an answer takes some {takes_s * 1000:.0f} ms now,"
                f" and the deadline is in {(ticket.deadline_s - now_s) * 1000:.0f} ms",
                # A retry is useless where the deadline is too short even without a wait.
                NEVER if now_s > self._latest_admission_s(ticket, now_s) else wait_s,
            )
        if slack_s < 0:
            raise self._overloaded("requests with later deadlines would miss theirs", wait_s)
        self._count(ticket, wait_s)
        return expected_s

    def _is_idle(self, flow: Hashable) -> bool:
        """Whether a request of the flow would run at once."""
        return (
            not self._requests.used
            and self._running[flow] < self._max_running_per_flow
            and any(until is None for until in self._busy_until_s)
        )

    def _count(self, ticket: Ticket, wait_s: float) -> None:
        """Counts a ticket among those that wait. Raises Overloaded where the queue is full."""
        if not self._requests.take(ticket.flow, 1):
            raise self._overloaded(f"{self._requests.used} requests wait already", wait_s)
        if not self._bytes.take(ticket.flow, ticket.size_bytes):
            self._requests.give_back(ticket.flow, 1)
            raise self._overloaded(f"{self._bytes.used} bytes of requests wait already", wait_s)

    def _expected_waits(self, ticket: Ticket, now_s: float) -> tuple[float, float]:
        """(seconds until the request would start; least slack of the requests behind it, inf where there is none)."""
        # A batch that runs past its expected end is expected to run as long again as it is late.
        running_s = sum(abs(until - now_s) for until in self._busy_until_s if until is not None)
        flow = self._flows.get(ticket.flow)
        others = [
            (f.backlog_s, f.waiting[0].ticket.weight / ticket.weight)
            for key, f in self._flows.items()
            if key != ticket.flow and f.waiting
        ]
        mean_s = ticket.expected.mean_s

        def wait_s(ahead_s: float) -> float:
            """The wait behind ahead_s of the flow's own work: other flows get work in proportion to their weights."""
            beside_s = sum(min(backlog_s, weight * (ahead_s + mean_s)) for backlog_s, weight in others)
            return (running_s + ahead_s + beside_s) / self._max_running_per_flow

        urgency_s = self._urgency_s(ticket, now_s)
        ahead_s = 0.0
        own_s: float | None = None
        slack_s = float("inf")
        correction = self._corrected()
        for entry in flow.waiting if flow else ():
            if own_s is None and entry.urgency_s > urgency_s:
                own_s = wait_s(ahead_s)
                ahead_s += mean_s
            if own_s is not None:
                latest_s = self._latest_start_s(entry.ticket) - now_s
                # A request that would be late anyway does not count.
                if latest_s >= correction * wait_s(ahead_s - mean_s):
                    slack_s = min(slack_s, latest_s - correction * wait_s(ahead_s))
            ahead_s += entry.ticket.expected.mean_s
        return wait_s(ahead_s) if own_s is None else own_s, slack_s

    def _urgency_s(self, ticket: Ticket, now_s: float) -> float:
        """The sort key within a flow: the latest start, at most LaneLimits.wait_s from now.

        A short request has the present time as its key: it delays others little, and would wait long behind them.
        """
        flow = self._flows.get(ticket.flow)
        longest_s = (
            max((entry.ticket.expected.mean_s for entry in flow.waiting), default=0.0) if flow else 0.0
        )
        if _SHORT_TIMES * ticket.expected.mean_s < longest_s:
            return now_s
        return min(self._latest_start_s(ticket), now_s + self._limits.wait_s)

    def _latest_start_s(self, ticket: Ticket) -> float:
        return ticket.deadline_s - ticket.expected.most_s - self._reply.most - _REPLY_S

    def _latest_admission_s(self, ticket: Ticket, now_s: float) -> float:
        """The latest expected start at which a request is admitted: the latest start less the reserve."""
        return self._latest_start_s(ticket) - _RESERVE * (ticket.deadline_s - now_s)

    def _corrected(self) -> float:
        """The factor that corrects expected waits, so that nearly no real wait is longer."""
        if time.monotonic() - self._corrected_at_s > _FORGOTTEN_S:
            return 1.0
        return min(max(1.0, self._correction.most), _MOST_CORRECTION)

    def _overloaded(self, why: str, retry_after_s: float) -> Overloaded:
        self.refused += 1
        if retry_after_s == NEVER:
            return Overloaded(f"{why}; give it longer", NEVER)
        retry_after_s = max(retry_after_s, 0.001)
        return Overloaded(f"{why}; try again in {retry_after_s * 1000:.0f} ms", retry_after_s)

    def _left(self, key: Hashable, flow: _Flow, ticket: Ticket) -> None:
        """Takes a ticket out of the counts of waiting ones."""
        flow.backlog_s = max(0.0, flow.backlog_s - ticket.expected.mean_s) if flow.waiting else 0.0
        self._requests.give_back(key, 1)
        self._bytes.give_back(key, ticket.size_bytes)

    def _work(self, worker: int) -> None:
        self._on_start()
        while batch := self._take(worker):
            flow = batch[0].flow
            try:
                self._answer(batch)
            except Exception as error:  # an uncaught error would end the thread for good
                log_failure("a batch could not be answered", error)
                for ticket in batch:
                    ticket.fail(error)
            # Drops its references to runners before it waits, so that a replaced runner is freed.
            batch.clear()
            with self._changed:
                self._running[flow] -= 1
                if not self._running[flow]:
                    del self._running[flow]

    def _take(self, worker: int) -> list[Ticket]:
        """Waits for the next batch; returns an empty one where the lane stops and no request waits."""
        batch: list[Ticket] = []
        with self._changed:
            self._busy_until_s[worker] = None
            while not batch:
                waiting = [key for key, flow in self._flows.items() if flow.waiting]
                keys = [key for key in waiting if self._running[key] < self._max_running_per_flow]
                if not keys:
                    if not waiting:
                        # Flows of removed surfaces must not pile up.
                        self._flows.clear()
                        if self._stopping:
                            # Other threads may wait for a flow that had reached max_running_per_flow.
                            self._changed.notify_all()
                            return []
                    self._changed.wait()
                    continue
                self._gather(min(keys, key=lambda key: self._flows[key].served_s), batch)
            self._running[batch[0].flow] += 1
            work_s = sum(ticket.expected.mean_s for ticket in batch)
            self._busy_until_s[worker] = time.monotonic() + work_s
        return batch

    def _gather(self, key: Hashable, batch: list[Ticket]) -> None:
        """Moves the flow's most urgent requests into the batch."""
        flow = self._flows[key]
        self._served_s = max(self._served_s, flow.served_s)
        now_s = time.monotonic()
        work_s, end_s = 0.0, float("inf")
        place = 0
        while place < len(flow.waiting) and len(batch) < self._max_batch:
            entry = flow.waiting[place]
            ticket = entry.ticket
            mean_s = ticket.expected.mean_s
            in_time = now_s + work_s + mean_s <= min(end_s, ticket.deadline_s)
            if batch and (ticket.batch != batch[0].batch or not in_time):
                place += 1
                continue
            del flow.waiting[place]
            self._left(key, flow, ticket)
            if entry.wait_s > _SHORT_WAIT_S:
                ratio = (now_s - entry.admitted_s) / entry.wait_s
                self._correction.observe(min(ratio, _MOST_CORRECTION))
                self._corrected_at_s = now_s
            if not ticket.is_wanted():
                continue
            # A request that an idle lane admitted runs even where it is expected to end late.
            if not in_time and (entry.wait_s > 0 or ticket.deadline_s <= now_s):
                self.shed += 1
                ticket.fail(Overloaded("the deadline would pass before the answer; try again", mean_s))
                continue
            batch.append(ticket)
            work_s += mean_s
            end_s = min(end_s, ticket.deadline_s)
            flow.served_s += mean_s / ticket.weight

    def _join(self, within_s: float) -> None:
        end_s = time.monotonic() + within_s
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))


def _stopping() -> Unavailable:
    return Unavailable("the server is stopping; ask another")
