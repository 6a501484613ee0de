from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from math import inf

import pytest

from meshfold.model.errors import DeadlineExceeded, Overloaded
from meshfold.service.batcher import Batcher


class Doubler:
    """Doubles numbers, fails at negative ones, keeps the batches it ran; waits while its gate is closed."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def run(self, batch: Sequence[int]) -> list[int]:
        self.entered.set()
        assert self.gate.wait(10)
        self.batches.append(list(batch))
        self.threads.add(threading.get_ident())
        if min(batch) < 0:
            raise ValueError("negative")
        return [2 * number for number in batch]


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    batcher: Batcher = Batcher(max_batch=4, queue_limit=8)
    yield batcher
    batcher.stop(10)


@pytest.fixture
def held(batcher: Batcher) -> Iterator[Doubler]:
    """A runner that holds the batcher's thread with the query 0 until its gate opens."""
    runner = Doubler()
    runner.gate.clear()
    batcher.submit(runner.run, 0, inf)
    assert runner.entered.wait(10)
    yield runner
    runner.gate.set()


def test_what_waits_runs_together_in_order_up_to_the_most(batcher: Batcher, held: Doubler) -> None:
    answers = [batcher.submit(held.run, n, inf) for n in range(1, 7)]
    held.gate.set()
    assert [answer.result(10) for answer in answers] == [2, 4, 6, 8, 10, 12]
    assert held.batches == [[0], [1, 2, 3, 4], [5, 6]]


def test_a_batch_holds_queries_of_one_runner(batcher: Batcher, held: Doubler) -> None:
    other = Doubler()
    runners = [other, held, other, held, other]
    answers = [batcher.submit(runner.run, n, inf) for n, runner in enumerate(runners, 1)]
    held.gate.set()
    assert [answer.result(10) for answer in answers] == [2, 4, 6, 8, 10]
    assert held.batches == [[0], [2, 4]]
    assert other.batches == [[1, 3, 5]]


def test_a_batch_holds_queries_of_one_plan(batcher: Batcher, held: Doubler) -> None:
    plans = [(1, True), (1, False), (1, True), None]
    answers = [batcher.submit(held.run, n, inf, plan) for n, plan in enumerate(plans, 1)]
    held.gate.set()
    assert [answer.result(10) for answer in answers] == [2, 4, 6, 8]
    assert held.batches == [[0], [1, 3], [2], [4]]


def test_a_batch_holds_queries_of_one_kind(batcher: Batcher, held: Doubler) -> None:
    class Both:
        def __init__(self) -> None:
            self.batches: list[list[int]] = []

        def add(self, batch: Sequence[int]) -> list[int]:
            self.batches.append(list(batch))
            return [n + 1 for n in batch]

        def take(self, batch: Sequence[int]) -> list[int]:
            self.batches.append(list(batch))
            return [n - 1 for n in batch]

    both = Both()
    runs = [both.add, both.take, both.add, both.take, both.add]
    answers = [batcher.submit(run, 10 * n, inf) for n, run in enumerate(runs, 1)]
    held.gate.set()
    assert [answer.result(10) for answer in answers] == [11, 19, 31, 39, 51]
    assert both.batches == [[10, 30, 50], [20, 40]]


def test_one_thread_runs_everything(batcher: Batcher) -> None:
    runner = Doubler()

    def caller(first: int) -> None:
        for n in range(first, first + 50):
            assert batcher.submit(runner.run, n, inf).result(10) == 2 * n

    callers = [threading.Thread(target=caller, args=(first,)) for first in range(0, 400, 100)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert len(runner.threads) == 1
    assert sum(map(len, runner.batches)) == 200


def test_a_full_queue_refuses_and_has_room_again(batcher: Batcher, held: Doubler) -> None:
    answers = [batcher.submit(held.run, n, inf) for n in range(8)]
    with pytest.raises(Overloaded, match="8 requests wait"):
        batcher.submit(held.run, 9, inf)
    with pytest.raises(Overloaded):
        batcher.admit()
    held.gate.set()
    assert [answer.result(10) for answer in answers] == [2 * n for n in range(8)]
    assert batcher.submit(held.run, 9, inf).result(10) == 18


def test_who_left_and_who_is_late_costs_nothing(batcher: Batcher, held: Doubler) -> None:
    left = batcher.submit(held.run, 1, inf)
    late = batcher.submit(held.run, 2, time.monotonic() - 1)
    stays = batcher.submit(held.run, 3, time.monotonic() + 60)
    assert left.cancel()
    held.gate.set()
    assert stays.result(10) == 6
    with pytest.raises(CancelledError):
        left.result(10)
    with pytest.raises(DeadlineExceeded):
        late.result(10)
    assert held.batches == [[0], [3]]


def test_a_query_that_fails_does_not_fail_its_company(batcher: Batcher, held: Doubler) -> None:
    answers = [batcher.submit(held.run, n, inf) for n in (1, -1, 2)]
    held.gate.set()
    assert answers[0].result(10) == 2
    assert answers[2].result(10) == 4
    with pytest.raises(ValueError, match="negative"):
        answers[1].result(10)
    assert held.batches == [[0], [1, -1, 2], [1], [-1], [2]]


def test_a_runner_that_gives_too_few_answers_fails_its_queries(batcher: Batcher) -> None:
    class Forgetful:
        def run(self, batch: Sequence[int]) -> list[int]:
            return []

    with pytest.raises(RuntimeError, match="0 results for 1 queries"):
        batcher.submit(Forgetful().run, 1, inf).result(10)


def test_a_stop_answers_what_waits_and_takes_no_more(batcher: Batcher, held: Doubler) -> None:
    answers = [batcher.submit(held.run, n, inf) for n in range(6)]
    stop = threading.Thread(target=batcher.stop, args=(10,))
    stop.start()
    wait_until(lambda: refuses(batcher))
    held.gate.set()
    stop.join(10)
    assert [answer.result(0) for answer in answers] == [2 * n for n in range(6)]


def test_a_stop_without_grace_cancels_what_waits(batcher: Batcher, held: Doubler) -> None:
    answer = batcher.submit(held.run, 1, inf)
    stop = threading.Thread(target=batcher.stop, args=(0,))
    stop.start()
    with pytest.raises(CancelledError):
        answer.result(10)
    held.gate.set()
    stop.join(10)
    assert held.batches == [[0]]


def test_an_idle_batcher_holds_on_to_no_runner(batcher: Batcher) -> None:
    runner = Doubler()
    assert batcher.submit(runner.run, 1, inf).result(10) == 2
    freed = weakref.ref(runner)
    del runner
    wait_until(lambda: gc.collect() >= 0 and freed() is None)


def refuses(batcher: Batcher) -> bool:
    try:
        batcher.admit()
    except Overloaded:
        return True
    return False


def wait_until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)
