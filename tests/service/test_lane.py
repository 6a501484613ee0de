from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from meshfold.model.errors import Overloaded, Unavailable
from meshfold.service import lane as lane_module
from meshfold.service.lane import Lane, LaneLimits
from meshfold.service.service_times import Expected

# Far enough away that no deadline passes and no wait is over the limit by itself.
FAR_S = 1000.0
ROOMY = LaneLimits(requests=1000, bytes=1 << 20, wait_s=FAR_S)


@dataclass(eq=False)
class Job:
    """A number to double. work_s: of it, as expected. within_s: its deadline, from now."""

    number: int
    flow: Hashable = "shop"
    batch: Hashable = None
    work_s: float = 0.0
    most_s: float = 0.0
    within_s: float = FAR_S
    size_bytes: int = 1
    weight: float = 1.0
    wanted: bool = True
    held: Any = None
    answer: Future[int] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.expected = Expected(self.work_s, max(self.work_s, self.most_s))
        self.deadline_s = time.monotonic() + self.within_s

    def is_wanted(self) -> bool:
        return self.wanted

    def fail(self, error: Exception) -> None:
        self.answer.set_exception(error)


class Doubler:
    """Resolves jobs, keeps the batches it ran and by which threads; waits while its gate is closed, and closes it at
    a job of `pauses`."""

    def __init__(self) -> None:
        self.pauses: set[int] = set()
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def run(self, batch: Sequence[Any]) -> None:
        if self.pauses & {job.number for job in batch}:
            self.gate.clear()
        self.entered.set()
        assert self.gate.wait(10)
        self.batches.append([job.number for job in batch])
        self.threads.add(threading.get_ident())
        for job in batch:
            job.answer.set_result(2 * job.number)


class Lanes:
    """Makes lanes that are stopped at the end of a test."""

    def __init__(self) -> None:
        self._made: list[tuple[Lane, Doubler]] = []

    def make(
        self, limits: LaneLimits = ROOMY, workers: int = 1, max_batch: int = 4, **given: Any
    ) -> tuple[Lane, Doubler]:
        doubler = Doubler()
        lane = Lane("test", workers, max_batch, limits, given.pop("run", doubler.run), **given)
        self._made.append((lane, doubler))
        return lane, doubler

    def held(
        self, limits: LaneLimits = ROOMY, work_s: float = 0.0, max_batch: int = 4
    ) -> tuple[Lane, Doubler]:
        """A lane whose one thread is held by a job 0, expected to take work_s, until the gate opens."""
        lane, doubler = self.make(limits, max_batch=max_batch)
        doubler.gate.clear()
        lane.submit(Job(0, flow="held", work_s=work_s))
        assert doubler.entered.wait(10)
        return lane, doubler

    def stop(self) -> None:
        for lane, doubler in self._made:
            doubler.gate.set()
            lane.stop(10)


@pytest.fixture(autouse=True)
def _waits_as_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expected waits are taken as they are. Those that came true are tested apart."""
    monkeypatch.setattr(lane_module, "_MOST_CORRECTION", 1.0)


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    lanes = Lanes()
    yield lanes
    lanes.stop()


def submitted(lane: Lane, *jobs: Job) -> list[Job]:
    for job in jobs:
        lane.submit(job)
    return list(jobs)


def results(jobs: Sequence[Job]) -> list[int]:
    return [job.answer.result(10) for job in jobs]


def refused(lane: Lane, job: Job) -> Overloaded:
    before = lane.refused
    with pytest.raises(Overloaded) as caught:
        lane.submit(job)
    assert lane.refused == before + 1
    return caught.value


def wait_until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def test_what_waits_runs_together_in_order_up_to_the_most(lanes: Lanes) -> None:
    lane, doubler = lanes.held()
    jobs = submitted(lane, *(Job(n) for n in range(1, 7)))
    assert lane.waiting() == 6
    doubler.gate.set()
    assert results(jobs) == [2, 4, 6, 8, 10, 12]
    assert doubler.batches == [[0], [1, 2, 3, 4], [5, 6]]
    assert lane.waiting() == 0


def test_a_batch_holds_requests_of_one_kind(lanes: Lanes) -> None:
    lane, doubler = lanes.held()
    kinds = ["one", "other", "one", "other", "one", None]
    jobs = submitted(lane, *(Job(n, batch=kind) for n, kind in enumerate(kinds, 1)))
    doubler.gate.set()
    assert results(jobs) == [2, 4, 6, 8, 10, 12]
    assert doubler.batches == [[0], [1, 3, 5], [2, 4], [6]]


def test_a_batch_holds_requests_of_one_flow(lanes: Lanes) -> None:
    lane, doubler = lanes.held()
    jobs = submitted(lane, *(Job(n, flow=("shop", "video")[n % 2], batch="one") for n in range(1, 6)))
    doubler.gate.set()
    assert results(jobs) == [2, 4, 6, 8, 10]
    assert doubler.batches == [[0], [1, 3, 5], [2, 4]]


def test_one_thread_runs_everything_where_there_is_one(lanes: Lanes) -> None:
    lane, doubler = lanes.make()

    def caller(first: int) -> None:
        for n in range(first, first + 50):
            assert results(submitted(lane, Job(n))) == [2 * n]

    callers = [threading.Thread(target=caller, args=(first,)) for first in range(0, 400, 100)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert len(doubler.threads) == 1
    assert sum(map(len, doubler.batches)) == 200


def test_several_threads_run_batches_at_once_and_each_is_prepared_first(lanes: Lanes) -> None:
    prepared: set[str] = set()
    together = threading.Barrier(3)

    def run(batch: Sequence[Any]) -> None:
        assert threading.current_thread().name in prepared
        together.wait(10)
        for job in batch:
            job.answer.set_result(2 * job.number)

    def on_start() -> None:
        prepared.add(threading.current_thread().name)

    lane, _ = lanes.make(workers=3, max_batch=1, run=run, on_start=on_start)
    assert results(submitted(lane, *(Job(n) for n in range(6)))) == [0, 2, 4, 6, 8, 10]
    assert prepared == {"meshfold-test-0", "meshfold-test-1", "meshfold-test-2"}


def test_a_request_that_cannot_end_by_its_deadline_is_refused_at_once(lanes: Lanes) -> None:
    lane, doubler = lanes.held()
    # Nothing else waits: only its own work counts, as long as nearly all of its class take.
    assert "and the deadline is in" in str(refused(lane, Job(1, work_s=5, most_s=20, within_s=10)))
    jobs = submitted(lane, Job(2, work_s=5, most_s=9, within_s=10))
    doubler.gate.set()
    assert results(jobs) == [4]
    assert doubler.batches == [[0], [2]]


def test_an_idle_lane_runs_whatever_comes_and_so_learns_what_it_takes_by_now(lanes: Lanes) -> None:
    lane, doubler = lanes.make()
    assert results(submitted(lane, Job(1, work_s=50, within_s=10))) == [2]
    # But nothing whose deadline is over.
    wait_until(lambda: lane._is_idle())
    refused(lane, Job(2, within_s=0))
    assert (doubler.batches, lane.shed) == ([[1]], 0)


def test_expected_waits_are_corrected_by_those_that_came_true(
    lanes: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    lane, doubler = lanes.held(max_batch=1)
    # What waits came true is not known yet: twice as long may pass. This one would start after 50 s.
    jobs = submitted(lane, Job(1, work_s=50, within_s=130))
    refused(lane, Job(2, work_s=1, within_s=90))
    jobs += submitted(lane, Job(2, work_s=1, within_s=110))
    doubler.gate.set()
    results(jobs)
    for _ in range(5):
        held_again(lane, doubler)
        # Little is expected of what runs, and it takes many times as long.
        jobs = submitted(lane, Job(1, work_s=0.02), Job(2, work_s=0.02))
        time.sleep(0.1)
        doubler.gate.set()
        results(jobs)
    held_again(lane, doubler)
    jobs = submitted(lane, Job(1, work_s=50, within_s=235))
    refused(lane, Job(2, work_s=1, within_s=190))
    # Four times is the most.
    jobs += submitted(lane, Job(2, work_s=1, within_s=300))
    doubler.gate.set()
    results(jobs)


def held_again(lane: Lane, doubler: Doubler) -> None:
    doubler.gate.clear()
    doubler.entered.clear()
    lane.submit(Job(0, flow="held", work_s=0.02))
    assert doubler.entered.wait(10)


def test_what_runs_and_what_waits_count_until_a_deadline(lanes: Lanes) -> None:
    lane, doubler = lanes.held(work_s=100)
    error = refused(lane, Job(1, work_s=20, within_s=110))
    assert "an answer takes some" in str(error)
    assert 90 < error.retry_after_s <= 100
    jobs = submitted(lane, Job(2, work_s=20, within_s=130))
    error = refused(lane, Job(3, work_s=20, within_s=135))
    assert 110 < error.retry_after_s <= 120
    jobs += submitted(lane, Job(4, work_s=20, within_s=150))
    doubler.gate.set()
    assert results(jobs) == [4, 8]
    assert lane.refused == 2


def test_an_expected_wait_over_the_limit_is_refused_with_a_time_to_come_back(lanes: Lanes) -> None:
    lane, doubler = lanes.held(LaneLimits(1000, 1000, wait_s=150), work_s=100)
    jobs = submitted(lane, Job(1, work_s=100))
    error = refused(lane, Job(2, work_s=100))
    assert "ms of work wait already; try again in" in str(error)
    # Until half of the limit waits.
    assert 115 < error.retry_after_s <= 125
    doubler.gate.set()
    assert results(jobs) == [2]


def test_threads_share_the_wait(lanes: Lanes) -> None:
    lane, doubler = lanes.make(LaneLimits(1000, 1000, wait_s=150), workers=2, max_batch=1)
    doubler.gate.clear()
    jobs = submitted(lane, Job(1, work_s=200), Job(2, work_s=200))
    wait_until(lambda: lane.waiting() == 0)
    assert "ms of work wait" in str(refused(lane, Job(3, work_s=1)))
    doubler.gate.set()
    assert results(jobs) == [2, 4]
    # Whoever is done is expected to be busy no longer.
    wait_until(lambda: lane._busy_until_s == [None, None])
    assert results(submitted(lane, Job(3, work_s=1))) == [6]


def test_a_full_queue_refuses_and_has_room_again(lanes: Lanes) -> None:
    lane, doubler = lanes.held(LaneLimits(requests=8, bytes=1000, wait_s=FAR_S))
    jobs = submitted(lane, *(Job(n) for n in range(1, 5)))
    # One flow has at most as much as it leaves to others, and another has room.
    error = refused(lane, Job(5))
    assert "4 requests wait already" in str(error)
    assert error.retry_after_s > 0
    jobs += submitted(lane, Job(6, flow="video"), Job(7, flow="video"))
    refused(lane, Job(8, flow="video"))
    jobs += submitted(lane, Job(9, flow="third"))
    refused(lane, Job(10, flow="third"))
    # The last place is for whoever has none.
    jobs += submitted(lane, Job(11, flow="fourth"))
    refused(lane, Job(12, flow="fifth"))
    assert lane.waiting() == 8
    doubler.gate.set()
    assert results(jobs) == [2, 4, 6, 8, 12, 14, 18, 22]
    assert results(submitted(lane, Job(5))) == [10]


def test_bytes_that_wait_are_bounded_and_those_of_a_refused_request_are_not_kept(lanes: Lanes) -> None:
    lane, doubler = lanes.held(LaneLimits(requests=100, bytes=1000, wait_s=FAR_S))
    jobs = submitted(lane, Job(1, size_bytes=400))
    assert "400 bytes of requests wait already" in str(refused(lane, Job(2, size_bytes=300)))
    jobs += submitted(lane, Job(3, size_bytes=100))
    assert lane.waiting() == 2
    refused(lane, Job(4, flow="video", size_bytes=501))
    jobs += submitted(lane, Job(5, flow="video", size_bytes=500))
    doubler.gate.set()
    assert results(jobs) == [2, 6, 10]
    assert results(submitted(lane, Job(6, size_bytes=1000))) == [12]


def test_requests_of_no_bytes_are_requests(lanes: Lanes) -> None:
    lane, doubler = lanes.held()
    jobs = submitted(lane, *(Job(n, size_bytes=0) for n in range(1, 4)))
    doubler.gate.set()
    assert results(jobs) == [2, 4, 6]
    assert results(submitted(lane, Job(4, size_bytes=0))) == [8]


def test_the_most_urgent_runs_first(lanes: Lanes) -> None:
    lane, doubler = lanes.held(max_batch=1)
    # What counts is when it must start: by its deadline, less what it takes.
    jobs = submitted(
        lane,
        Job(1, within_s=300),
        Job(2, within_s=100),
        Job(3, within_s=350, most_s=200),
        Job(4, within_s=200),
    )
    doubler.gate.set()
    assert results(jobs) == [2, 4, 6, 8]
    assert doubler.batches == [[0], [2], [3], [4], [1]]


def test_nobody_is_overtaken_for_longer_than_the_limit(lanes: Lanes) -> None:
    lane, doubler = lanes.held(LaneLimits(1000, 1000, wait_s=20), max_batch=1)
    # All may wait longer than the limit, however late their deadlines are: the first come runs first.
    jobs = submitted(lane, *(Job(n, within_s=within_s) for n, within_s in ((1, 900), (2, 300), (3, 100))))
    jobs += submitted(lane, Job(4, within_s=10))
    doubler.gate.set()
    assert results(jobs) == [2, 4, 6, 8]
    assert doubler.batches == [[0], [4], [1], [2], [3]]


def test_a_request_that_would_make_an_admitted_one_late_is_refused(lanes: Lanes) -> None:
    lane, doubler = lanes.held(max_batch=1)
    jobs = submitted(lane, Job(1, work_s=100, within_s=150))
    # It would run first, and then the first would end 200 s from now.
    error = refused(lane, Job(2, work_s=100, within_s=140))
    assert "later deadlines would miss theirs" in str(error)
    # Neither one that lets it be in time, nor one that runs after it.
    jobs += submitted(lane, Job(3, work_s=40, within_s=85), Job(4, work_s=100, within_s=300))
    refused(lane, Job(5, work_s=20, within_s=100))
    doubler.gate.set()
    assert results(jobs) == [2, 6, 8]
    assert doubler.batches == [[0], [3], [1], [4]]


def test_flows_take_turns_by_their_work(lanes: Lanes) -> None:
    lane, doubler = lanes.held(max_batch=1)
    heavy = submitted(lane, *(Job(-n, flow="heavy", work_s=10) for n in range(1, 4)))
    light = submitted(lane, *(Job(n, flow="light", work_s=1) for n in range(1, 26)))
    doubler.gate.set()
    results(heavy + light)
    ran = [number for (number,) in doubler.batches[1:]]
    # For each second of one there is a second of the other, up to the longest that cannot be parted.
    for end in range(len(ran)):
        done = ran[: end + 1]
        heavy_s = 10 * sum(number < 0 for number in done)
        light_s = sum(number > 0 for number in done)
        if light_s < 25 and heavy_s < 30:
            assert abs(heavy_s - light_s) <= 10, done
    # Within each the order stays.
    assert [number for number in ran if number > 0] == list(range(1, 26))
    assert [number for number in ran if number < 0] == [-1, -2, -3]


def test_a_flow_that_was_away_saved_up_no_turns(lanes: Lanes) -> None:
    lane, doubler = lanes.held(max_batch=1)
    jobs = submitted(lane, Job(50, flow="late", work_s=10), *(Job(n, work_s=10) for n in range(1, 7)))
    doubler.pauses.add(4)
    doubler.entered.clear()
    doubler.gate.set()
    assert doubler.entered.wait(10)
    # Three others have run since its last, and the fourth runs.
    jobs += submitted(lane, *(Job(n, flow="late", work_s=10) for n in (51, 52, 53)))
    doubler.gate.set()
    results(jobs)
    assert [number for (number,) in doubler.batches] == [0, 50, 1, 2, 3, 4, 51, 52, 5, 53, 6]


def test_a_flow_of_less_weight_has_fewer_turns(lanes: Lanes) -> None:
    lane, doubler = lanes.held(max_batch=1)
    jobs = submitted(lane, *(Job(-n, flow="shadow", work_s=1, weight=0.25) for n in range(1, 4)))
    jobs += submitted(lane, *(Job(n, work_s=1) for n in range(1, 9)))
    doubler.gate.set()
    results(jobs)
    assert [number for (number,) in doubler.batches[1:]] == [-1, 1, 2, 3, 4, -2, 5, 6, 7, 8, -3]


def test_the_weight_of_one_flow_sets_no_other_back(lanes: Lanes) -> None:
    lane, doubler = lanes.held(max_batch=1)
    jobs = submitted(lane, *(Job(-n, flow="shadow", work_s=1, weight=0.25) for n in (1, 2)))
    jobs += submitted(lane, *(Job(n, work_s=1) for n in (1, 2, 3)))
    doubler.pauses.add(1)
    doubler.entered.clear()
    doubler.gate.set()
    assert doubler.entered.wait(10)
    jobs += submitted(lane, *(Job(n, flow="new", work_s=1) for n in (11, 12)))
    doubler.gate.set()
    results(jobs)
    assert [number for (number,) in doubler.batches] == [0, -1, 1, 11, 2, 12, 3, -2]


def test_the_expected_wait_knows_of_turns(lanes: Lanes) -> None:
    lane, doubler = lanes.held(LaneLimits(1000, 1000, wait_s=205))
    jobs = submitted(lane, *(Job(n, flow="heavy", work_s=10) for n in range(1, 21)))
    # 200 s of work wait, of which this one waits for as much as it takes itself, and whoever has them for it.
    refused(lane, Job(30, work_s=10, within_s=19))
    jobs += submitted(lane, Job(31, work_s=10, within_s=21))
    assert "ms of work wait" in str(refused(lane, Job(21, flow="heavy", work_s=10)))
    doubler.gate.set()
    results(jobs)


def test_a_batch_ends_by_the_earliest_deadline_in_it(lanes: Lanes) -> None:
    lane, doubler = lanes.held(max_batch=10)
    jobs = submitted(
        lane,
        Job(1, work_s=10, within_s=25),
        Job(2, work_s=10, within_s=100),
        Job(3, work_s=10, within_s=200),
        Job(4, work_s=3, within_s=300),
    )
    doubler.gate.set()
    assert results(jobs) == [2, 4, 6, 8]
    # The third would end after 30 s, which the first has not.
    assert doubler.batches == [[0], [1, 2, 4], [3]]


def test_what_cannot_end_in_time_any_more_is_shed_before_it_runs(lanes: Lanes) -> None:
    lane, doubler = lanes.held()
    late, stays = submitted(lane, Job(1, work_s=0.05, within_s=0.15), Job(2))
    time.sleep(0.15)
    doubler.gate.set()
    assert stays.answer.result(10) == 4
    with pytest.raises(Overloaded, match="the deadline would pass before the answer") as caught:
        late.answer.result(10)
    assert caught.value.retry_after_s > 0
    assert doubler.batches == [[0], [2]]
    assert (lane.shed, lane.refused, lane.waiting()) == (1, 0, 0)


def test_who_left_costs_nothing(lanes: Lanes) -> None:
    lane, doubler = lanes.held(LaneLimits(requests=6, bytes=1000, wait_s=FAR_S))
    withdrawn, left, stays = submitted(lane, Job(1, work_s=FAR_S / 2), Job(2), Job(3))
    refused(lane, Job(4))
    lane.withdraw(withdrawn)
    lane.withdraw(withdrawn)
    assert lane.waiting() == 2
    # Its place and its work are free again.
    jobs = submitted(lane, Job(4, work_s=1, within_s=3))
    left.wanted = False
    doubler.gate.set()
    assert results([stays, *jobs]) == [6, 8]
    # Nothing happens to what runs, ran or never came.
    for job in (stays, Job(5, flow="nobody")):
        lane.withdraw(job)
    assert not withdrawn.answer.done()
    assert not left.answer.done()
    assert (sorted(map(sorted, doubler.batches)), lane.shed, lane.waiting()) == ([[0], [3, 4]], 0, 0)


def test_a_stop_answers_what_waits_and_takes_no_more(lanes: Lanes) -> None:
    lane, doubler = lanes.held()
    jobs = submitted(lane, *(Job(n) for n in range(6)))
    stop = threading.Thread(target=lane.stop, args=(10,))
    stop.start()
    wait_until(lambda: _refuses_for_good(lane))
    doubler.gate.set()
    stop.join(10)
    assert [job.answer.result(0) for job in jobs] == [2 * n for n in range(6)]


def _refuses_for_good(lane: Lane) -> bool:
    try:
        # One that would be refused anyway, so that nothing is added.
        lane.submit(Job(99, within_s=0))
    except Unavailable as error:
        return "stopping; ask another" in str(error)
    except Overloaded:
        return False
    raise AssertionError


def test_a_stop_without_grace_refuses_what_waits(lanes: Lanes) -> None:
    lane, doubler = lanes.held()
    (job,) = submitted(lane, Job(1))
    stop = threading.Thread(target=lane.stop, args=(0,))
    stop.start()
    with pytest.raises(Unavailable, match="stopping"):
        job.answer.result(10)
    doubler.gate.set()
    stop.join(10)
    assert doubler.batches == [[0]]


def test_an_idle_lane_holds_on_to_no_request(lanes: Lanes) -> None:
    class Runner:
        pass

    lane, _ = lanes.make()
    runner = Runner()
    freed = weakref.ref(runner)
    job = Job(1, held=runner)
    assert results(submitted(lane, job)) == [2]
    del runner, job
    wait_until(lambda: gc.collect() >= 0 and freed() is None)


def test_nothing_is_lost_among_many_callers(lanes: Lanes) -> None:
    """Each request is answered, refused, shed or withdrawn; then nothing waits, and no share is held."""
    lane, doubler = lanes.make(LaneLimits(requests=40, bytes=4000, wait_s=0.05), workers=2)
    ends: list[str] = []

    def caller(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for n in range(100):
            job = Job(
                n,
                flow=seed % 3,
                batch=n % 2,
                work_s=float(rng.choice([0, 0.001, 0.02])),
                within_s=float(rng.choice([0.001, 0.02, 10])),
                size_bytes=int(rng.integers(0, 1500)),
                weight=float(rng.choice([0.25, 1])),
            )
            try:
                lane.submit(job)
            except Overloaded:
                ends.append("refused")
                continue
            if n % 7 == 0:
                job.wanted = False
                lane.withdraw(job)
                ends.append("left")
                continue
            try:
                assert job.answer.result(10) == 2 * n
                ends.append("answered")
            except Overloaded:
                ends.append("shed")

    callers = [threading.Thread(target=caller, args=(seed,)) for seed in range(8)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert len(ends) == 800
    assert min(ends.count("answered"), ends.count("refused"), ends.count("left")) > 0
    assert (lane.refused, lane.shed) == (ends.count("refused"), ends.count("shed"))
    wait_until(lambda: lane.waiting() == 0)
    # All of the budgets are there again.
    doubler.gate.clear()
    doubler.entered.clear()
    lane.submit(Job(0, flow="held"))
    assert doubler.entered.wait(10)
    last = submitted(lane, Job(1, flow="last", size_bytes=4000))
    doubler.gate.set()
    assert results(last) == [2]
