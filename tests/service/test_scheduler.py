from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from meshfold.model.errors import InvalidQuery, Overloaded, Unavailable
from meshfold.model.limits import Limits
from meshfold.model.stages import stage
from meshfold.model.types import RequestSize
from meshfold.service.call import Call
from meshfold.service.event_loop import EventLoop
from meshfold.service.lane import LaneLimits
from meshfold.service.price import price_s
from meshfold.service.scheduler import Scheduler
from tests.service.doubler import LARGE, Doubler, Numbers
from tests.waiting import wait_until

USUAL = RequestSize("shop", max_results=10, users=1)
# Of a million items, half a second on the machine that prices are of.
HEAVY = RequestSize("shop", max_results=10, users=1, filter_nodes=500)
MANY = 1_000_000
HEAVY_PRICE_S = price_s(HEAVY, MANY, candidates=10)


class Run:
    """A scheduler and the loop of its callers."""

    def __init__(self, **limits: Any) -> None:
        self.loop = EventLoop("test-loop")
        self.prepared: list[str] = []
        self.scheduler = Scheduler(
            2,
            4,
            LaneLimits(**{"requests": 100, "bytes": 1 << 20, "wait_s": 60.0, **limits}),
            lambda: self.prepared.append(threading.current_thread().name),
        )
        self.doublers: list[Doubler] = []

    def doubler(self, items: int = MANY, held: bool = False) -> Doubler:
        made = Doubler(items)
        self.doublers.append(made)
        if held:
            made.gate.clear()
        return made

    def submit(
        self,
        doubler: Doubler,
        number: int,
        size: RequestSize = USUAL,
        within_s: float = 60.0,
        shadow: bool = False,
    ) -> Future[bytes]:
        call = Call(b"%d" % number, time.monotonic() + within_s, is_shadow=shadow)
        return self.later(self.scheduler.run(doubler.work, size, call))

    def later(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop.loop)

    def stop(self) -> None:
        for doubler in self.doublers:
            doubler.gate.set()
        self.scheduler.stop(10)
        self.loop.stop()


@pytest.fixture
def run() -> Iterator[Run]:
    run = Run()
    yield run
    run.stop()


def test_a_usual_request_runs_on_the_callers_threads(run: Run) -> None:
    doubler = run.doubler()
    assert [run.submit(doubler, n).result(10) for n in (1, 2, 3)] == [b"2", b"4", b"6"]
    assert set(doubler.threads) <= {"meshfold-worker-0", "meshfold-worker-1"}
    wait_until(lambda: len(run.prepared) == 3)
    assert sorted(run.prepared) == ["meshfold-background-0", "meshfold-worker-0", "meshfold-worker-1"]


def test_heavy_requests_and_shadows_run_in_the_background_and_hold_up_no_usual_one(run: Run) -> None:
    heavy, shadow, usual = run.doubler(held=True), run.doubler(held=True), run.doubler()
    waiting = [run.submit(heavy, n, HEAVY) for n in (1, 2, 3)]
    assert heavy.entered.wait(10)
    waiting += [run.submit(shadow, n, shadow=True) for n in (4, 5)]
    wait_until(lambda: run.scheduler.background.waiting() == 4)
    assert run.scheduler.waiting() == 4
    # Callers with usual requests never wait for them.
    assert [run.submit(usual, n).result(10) for n in range(20)] == [b"%d" % (2 * n) for n in range(20)]
    assert not any(one.done() for one in waiting)
    heavy.gate.set()
    shadow.gate.set()
    assert [one.result(10) for one in waiting] == [b"2", b"4", b"6", b"8", b"10"]
    assert {*heavy.threads, *shadow.threads} == {"meshfold-background-0"}
    assert not {"meshfold-background-0"} & {*usual.threads}
    # One after another.
    assert [len(batch) for batch in heavy.batches] == [1, 1, 1]


def test_what_is_heavy_is_told_by_what_it_takes_here(run: Run) -> None:
    # Of few items, the same request is as quick as any.
    small = run.doubler(items=100)
    assert run.submit(small, 1, HEAVY).result(10) == b"2"
    assert small.threads[0].startswith("meshfold-worker")
    # And a machine on which it was measured to be quick runs it where callers wait.
    large = run.doubler()
    kind = (large.surface, Numbers.METHOD, True, False)
    for _ in range(50):
        run.scheduler.times.observe(kind, HEAVY_PRICE_S, 0.001)
    assert run.submit(large, 1, HEAVY).result(10) == b"2"
    assert large.threads[0].startswith("meshfold-worker")


def test_what_was_measured_decides_whether_a_request_can_end_in_time(run: Run) -> None:
    doubler = run.doubler(held=True)
    kind = (doubler.surface, Numbers.METHOD, True, False)
    for _ in range(50):
        run.scheduler.times.observe(kind, HEAVY_PRICE_S, 20.0)
    running = run.submit(doubler, 1, HEAVY)
    assert doubler.entered.wait(10)
    with pytest.raises(Overloaded, match="and the deadline is in") as caught:
        run.submit(doubler, 2, HEAVY, within_s=30).result(10)
    assert caught.value.retry_after_s > 10
    assert doubler.batches == [[1]]
    assert (run.scheduler.background.refused, run.scheduler.callers.refused) == (1, 0)
    doubler.gate.set()
    assert running.result(10) == b"2"
    # An answer that came sooner is what is expected next; and where nothing runs it is tried whatever is expected.
    wait_until(lambda: run.scheduler.background._is_idle("shop"))
    assert run.submit(doubler, 3, HEAVY, within_s=5).result(10) == b"6"
    assert run.scheduler.times.expected(kind, HEAVY_PRICE_S).mean_s < 19


def test_a_caller_that_leaves_the_queue_is_not_computed(run: Run) -> None:
    doubler = run.doubler(held=True)
    first = run.submit(doubler, 1, HEAVY)
    assert doubler.entered.wait(10)
    second, third = run.submit(doubler, 2, HEAVY), run.submit(doubler, 3, HEAVY)
    wait_until(lambda: run.scheduler.waiting() == 2)
    second.cancel()
    wait_until(lambda: run.scheduler.waiting() == 1)
    doubler.gate.set()
    assert (first.result(10), third.result(10)) == (b"2", b"6")
    assert doubler.batches == [[1], [3]]


def test_a_caller_that_leaves_ends_its_pass_at_the_next_stage(run: Run) -> None:
    doubler = run.doubler(held=True)
    doubler.step = stage
    left = run.submit(doubler, 1, HEAVY)
    assert doubler.entered.wait(10)
    next_one = run.submit(run.doubler(), 2, HEAVY)
    left.cancel()
    # The gate stays closed: only the end of the first lets the second run.
    assert next_one.result(10) == b"4"
    assert not doubler.gate.is_set()


def test_a_deadline_that_passes_ends_the_wait_and_the_pass(run: Run) -> None:
    doubler = run.doubler(items=100, held=True)
    doubler.step = stage
    with pytest.raises(TimeoutError):
        run.submit(doubler, 1, within_s=0.1).result(10)
    assert run.submit(run.doubler(), 2).result(10) == b"4"
    assert not doubler.gate.is_set()
    # Nothing was learned from it.
    assert run.scheduler.times.expected((doubler.surface, Numbers.METHOD), 0.002).mean_s < 0.1


def test_what_a_request_fails_with_is_raised(run: Run) -> None:
    with pytest.raises(ValueError, match="negative"):
        run.submit(run.doubler(), -1).result(10)


def test_large_messages_are_counted_out_of_the_loops_way(run: Run) -> None:
    adapter = Numbers()
    size = run.later(run.scheduler.measure(adapter, b"5", Limits())).result(10)
    assert (size.surface, size.bytes) == ("shop", 1)
    assert run.later(run.scheduler.measure(adapter, LARGE, Limits())).result(10).bytes == len(LARGE)
    loop, scanner = adapter.measured_by
    assert loop == "test-loop"
    assert scanner.startswith("meshfold-scanner")

    class Refusing(Numbers):
        def measure(self, message: bytes, limits: Limits) -> RequestSize:
            raise InvalidQuery("request", "too much")

    for message in (b"5", LARGE):
        with pytest.raises(InvalidQuery, match="too much"):
            run.later(run.scheduler.measure(Refusing(), message, Limits())).result(10)


def test_it_knows_how_long_nothing_came(run: Run) -> None:
    assert run.scheduler.quiet_s() == float("inf")
    run.later(run.scheduler.measure(Numbers(), b"5", Limits())).result(10)
    assert 0 <= run.scheduler.quiet_s() < 10


def test_surfaces_share_the_queue_and_a_greedy_one_leaves_room() -> None:
    run = Run(requests=8)
    try:
        held = [run.doubler(held=True) for _ in range(2)]
        running = [run.submit(doubler, 1) for doubler in held]
        assert all(doubler.entered.wait(10) for doubler in held)
        greedy, small = run.doubler(), run.doubler()
        small.surface = "video"
        waiting = [run.submit(greedy, n) for n in range(4)]
        with pytest.raises(Overloaded, match="4 requests wait already"):
            run.submit(greedy, 5).result(10)
        waiting.append(run.submit(small, 6))
        wait_until(lambda: run.scheduler.waiting() == 5)
        for doubler in held:
            doubler.gate.set()
        assert [one.result(10) for one in waiting] == [b"0", b"2", b"4", b"6", b"12"]
        assert [one.result(10) for one in running] == [b"2", b"2"]
    finally:
        run.stop()


def test_a_stop_answers_what_waits_and_takes_no_more(run: Run) -> None:
    doubler = run.doubler(held=True)
    waiting = [run.submit(doubler, n, HEAVY) for n in (1, 2)]
    assert doubler.entered.wait(10)
    wait_until(lambda: run.scheduler.waiting() == 1)
    run.scheduler.close()
    for size in (USUAL, HEAVY):
        with pytest.raises(Unavailable, match="stopping"):
            run.submit(doubler, 3, size).result(10)
    doubler.gate.set()
    run.scheduler.stop(10)
    assert [one.result(10) for one in waiting] == [b"2", b"4"]


def test_a_stop_without_grace_refuses_what_waits(run: Run) -> None:
    doubler = run.doubler(held=True)
    running = run.submit(doubler, 1, HEAVY)
    assert doubler.entered.wait(10)
    waiting = run.submit(doubler, 2, HEAVY)
    wait_until(lambda: run.scheduler.waiting() == 1)
    stop = threading.Thread(target=run.scheduler.stop, args=(0,))
    stop.start()
    with pytest.raises(Unavailable, match="stopping"):
        waiting.result(10)
    doubler.gate.set()
    assert running.result(10) == b"2"
    stop.join(10)
