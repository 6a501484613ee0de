from __future__ import annotations

import time

import pytest

from meshfold.model.errors import NEVER
from meshfold.service import lane as lane_module
from meshfold.service.lane import Lane, LaneLimits
from tests.service.lanes import (
    FAR_S,
    Doubler,
    Job,
    Lanes,
    _waits_as_expected,
    lanes,
    refused,
    results,
    submitted,
)
from tests.waiting import wait_until

__all__ = ["_waits_as_expected", "lanes"]


def test_a_request_that_cannot_end_by_its_deadline_is_refused_at_once(lanes: Lanes) -> None:
    lane, doubler = lanes.held()
    # Nothing else waits: only its own work counts, as long as nearly all of its class take.
    error = refused(lane, Job(1, work_s=5, most_s=20, within_s=10))
    assert "and the deadline is in" in str(error)
    assert error.retry_after_s == NEVER
    jobs = submitted(lane, Job(2, work_s=5, most_s=9, within_s=10))
    doubler.gate.set()
    assert results(jobs) == [4]
    assert doubler.batches == [[0], [2]]


def test_an_idle_lane_runs_whatever_comes_and_so_learns_what_it_takes_by_now(lanes: Lanes) -> None:
    lane, doubler = lanes.make()
    assert results(submitted(lane, Job(1, work_s=50, within_s=10))) == [2]
    # But nothing whose deadline is over.
    wait_until(lambda: lane._is_idle("shop"))
    refused(lane, Job(2, within_s=0))
    assert (doubler.batches, lane.shed) == ([[1]], 0)


def test_expected_waits_are_corrected_by_those_that_came_true(
    lanes: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(lane_module, "_RESERVE", 0.0)
    lane, doubler = lanes.held(max_batch=1)
    # What waits came true is not known yet: twice as long may pass. This one would start after 50 s.
    jobs = submitted(lane, Job(1, work_s=50, within_s=130))
    refused(lane, Job(2, work_s=20, within_s=105))
    jobs += submitted(lane, Job(2, work_s=20, within_s=130))
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
    refused(lane, Job(2, work_s=20, within_s=210))
    # Four times is the most.
    jobs += submitted(lane, Job(2, work_s=20, within_s=300))
    doubler.gate.set()
    results(jobs)


def test_some_of_a_requests_time_is_kept_in_reserve(lanes: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "_RESERVE", 0.1)
    lane, doubler = lanes.held(work_s=100)
    # 100 s until it starts, 20 s of work, and a tenth.
    refused(lane, Job(1, work_s=20, within_s=130))
    jobs = submitted(lane, Job(1, work_s=20, within_s=136))
    doubler.gate.set()
    assert results(jobs) == [2]


def test_a_late_loop_takes_from_the_time_of_requests(lanes: Lanes) -> None:
    lane, doubler = lanes.held(work_s=100)
    for _ in range(20):
        lane.replied(10.0)
    refused(lane, Job(1, work_s=20, within_s=125))
    jobs = submitted(lane, Job(1, work_s=20, within_s=150))
    doubler.gate.set()
    assert results(jobs) == [2]


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
    refused(lane, Job(4, flow="video", size_bytes=251))
    jobs += submitted(lane, Job(5, flow="video", size_bytes=250))
    doubler.gate.set()
    assert results(jobs) == [2, 6, 10]
    assert results(submitted(lane, Job(6, size_bytes=1000))) == [12]


def test_requests_of_no_bytes_are_requests(lanes: Lanes) -> None:
    lane, doubler = lanes.held()
    jobs = submitted(lane, *(Job(n, size_bytes=0) for n in range(1, 4)))
    doubler.gate.set()
    assert results(jobs) == [2, 4, 6]
    assert results(submitted(lane, Job(4, size_bytes=0))) == [8]


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


def test_the_expected_wait_knows_of_turns(lanes: Lanes) -> None:
    lane, doubler = lanes.held(LaneLimits(1000, 1000, wait_s=205))
    jobs = submitted(lane, *(Job(n, flow="heavy", work_s=10) for n in range(1, 21)))
    # 200 s of work wait, of which this one waits for as much as it takes itself, and whoever has them for it.
    refused(lane, Job(30, work_s=10, within_s=19))
    jobs += submitted(lane, Job(31, work_s=10, within_s=21))
    assert "ms of work wait" in str(refused(lane, Job(21, flow="heavy", work_s=10)))
    doubler.gate.set()
    results(jobs)
