from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from meshfold.model.errors import Overloaded, Unavailable
from meshfold.service.lane import Lane, LaneLimits
from tests.service.lanes import FAR_S, Job, Lanes, _waits_as_expected, lanes, refused, results, submitted
from tests.waiting import wait_until

__all__ = ["_waits_as_expected", "lanes"]


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


def test_a_short_request_does_not_wait_behind_long_ones(lanes: Lanes) -> None:
    lane, doubler = lanes.held(LaneLimits(1000, 1000, wait_s=20), max_batch=1)
    jobs = submitted(lane, *(Job(n, work_s=1.0, within_s=300) for n in (1, 2)))
    jobs += submitted(lane, Job(3, work_s=0.2), Job(4, work_s=0.2), Job(5, work_s=0.5, within_s=300))
    doubler.gate.set()
    assert results(jobs) == [2, 4, 6, 8, 10]
    # The two in the order in which they came.
    assert doubler.batches == [[0], [3], [4], [1], [2], [5]]


def test_a_flow_leaves_threads_to_the_others(lanes: Lanes) -> None:
    lane, doubler = lanes.make(workers=3, max_batch=1, max_running_per_flow=2)
    doubler.gate.clear()
    own = submitted(lane, *(Job(n, flow="busy") for n in range(5)))
    wait_until(lambda: lane.busy() == 2 and lane.waiting() == 3)
    other = submitted(lane, Job(9, flow="quiet"))
    wait_until(lambda: lane.busy() == 3)
    assert lane.waiting() == 3
    doubler.gate.set()
    assert results(own + other) == [0, 2, 4, 6, 8, 18]
    wait_until(lambda: lane.busy() == 0)


def test_a_lane_whose_flow_runs_as_much_as_it_may_stops(lanes: Lanes) -> None:
    lane, doubler = lanes.make(workers=3, max_batch=1, max_running_per_flow=1)
    jobs = submitted(lane, *(Job(n, flow="busy") for n in range(20)))
    lane.stop(10)
    assert results(jobs) == [2 * n for n in range(20)]
    assert not [thread for thread in lane._threads if thread.is_alive()]


def test_nobody_is_overtaken_for_longer_than_the_limit(lanes: Lanes) -> None:
    lane, doubler = lanes.held(LaneLimits(1000, 1000, wait_s=20), max_batch=1)
    # All may wait longer than the limit, however late their deadlines are: the first come runs first.
    jobs = submitted(lane, *(Job(n, within_s=within_s) for n, within_s in ((1, 900), (2, 300), (3, 100))))
    jobs += submitted(lane, Job(4, within_s=10))
    doubler.gate.set()
    assert results(jobs) == [2, 4, 6, 8]
    assert doubler.batches == [[0], [4], [1], [2], [3]]


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
