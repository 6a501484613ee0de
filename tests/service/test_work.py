from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meshfold.compat import meshfold_v1
from meshfold.compat.client import decode_response, encode_request
from meshfold.model.errors import InvalidQuery
from meshfold.model.limits import Limits
from meshfold.model.stages import stage
from meshfold.model.store import Store
from meshfold.model.types import Query
from meshfold.service.event_loop import EventLoop
from meshfold.service.runner import Runner
from meshfold.service.service_times import Expected, ServiceTimes
from meshfold.service.work import ALL_FIELDS, Request, Work, answer
from tests.service.doubler import Doubler

KIND = ("shop", "Double")


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop("test-loop")
    yield loop
    loop.stop()


def request(loop: EventLoop, work: Work, message: bytes, price_s: float = 0.01, kind: Any = KIND) -> Request:
    async def future() -> asyncio.Future[bytes]:
        return asyncio.get_running_loop().create_future()

    return Request(
        work,
        message,
        "shop",
        kind,
        price_s,
        Expected(price_s, price_s),
        time.monotonic() + 60,
        loop.loop,
        loop.run(future()),
    )


def ran(loop: EventLoop, requests: list[Request], times: ServiceTimes | None = None) -> list[Any]:
    """What became of a batch: bytes, an error, or None where nothing did."""
    answer(times or ServiceTimes(), time.monotonic, requests)

    async def outcome(request: Request) -> Any:
        # What was resolved from another thread came before this.
        if not request.answer.done():
            return None
        return request.answer.exception() or request.answer.result()

    return [loop.run(outcome(request)) for request in requests]


def test_a_batch_runs_as_one_where_it_has_one_plan(loop: EventLoop) -> None:
    doubler = Doubler()
    requests = [request(loop, doubler.work, b"%d" % n) for n in (1, 2, 103, 4, 105)]
    assert ran(loop, requests) == [b"2", b"4", b"206", b"8", b"210"]
    assert doubler.batches == [[1, 2, 4], [103, 105]]


def test_what_is_not_valid_fails_alone_before_anything_runs(loop: EventLoop) -> None:
    doubler = Doubler()
    few = replace(doubler.work, limits=Limits(max_string_bytes=3))
    requests = [
        request(loop, doubler.work, b"1"),
        request(loop, doubler.work, b"one"),
        request(loop, few, b"2"),
        request(loop, doubler.work, b"3"),
    ]
    first, bad, over, last = ran(loop, requests)
    assert (first, last) == (b"2", b"6")
    assert isinstance(bad, InvalidQuery)
    assert isinstance(over, InvalidQuery)
    assert over.path == "number.surface"
    assert doubler.batches == [[1, 3]]


def test_a_query_that_fails_does_not_fail_its_company(
    loop: EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    doubler = Doubler()
    requests = [request(loop, doubler.work, message) for message in (b"1", b"-1", b"2")]
    doubler.prepare = lambda query: replace(Doubler.prepare(doubler, query), plan=0)  # type: ignore[method-assign]
    first, failed, last = ran(loop, requests)
    assert (first, last) == (b"2", b"4")
    assert isinstance(failed, ValueError)
    assert doubler.batches == [[1, -1, 2], [1], [-1], [2]]
    assert "a batch of 3 failed and runs again one by one: ValueError" in caplog.text


def test_an_answer_that_cannot_be_sent_fails_alone(loop: EventLoop) -> None:
    doubler = Doubler()
    requests = [request(loop, doubler.work, message) for message in (b"650", b"610", b"640")]
    first, failed, last = ran(loop, [*requests[:2], request(loop, doubler.work, b"1")])
    assert isinstance(first, OverflowError)
    assert isinstance(failed, OverflowError)
    assert last == b"2"


def test_a_runner_that_gives_too_few_answers_fails_its_queries(loop: EventLoop) -> None:
    doubler = Doubler()
    doubler.run = lambda batch: []  # type: ignore[method-assign]
    (failed,) = ran(loop, [request(loop, doubler.work, b"1")])
    assert isinstance(failed, RuntimeError)
    assert str(failed) == "0 results for 1 queries"


def test_who_left_is_not_computed(loop: EventLoop) -> None:
    doubler = Doubler()
    requests = [request(loop, doubler.work, b"%d" % n) for n in (1, 2, 3)]
    requests[1].leave()
    assert not requests[1].is_wanted()
    assert ran(loop, requests) == [b"2", None, b"6"]
    assert doubler.batches == [[1, 3]]


def test_a_pass_that_all_callers_left_ends_at_its_next_stage(loop: EventLoop) -> None:
    doubler = Doubler()
    doubler.gate.clear()
    times = ServiceTimes()
    requests = [request(loop, doubler.work, b"%d" % n) for n in (1, 2)]
    stages = []

    def step() -> None:
        stages.append(sum(one.is_wanted() for one in requests))
        stage()
        requests[len(stages) - 1].leave()

    doubler.step = step
    assert ran(loop, requests, times) == [None, None]
    # One caller that still waits keeps it going.
    assert stages == [2, 1, 0]
    # A whole one takes no less than what was expected.
    assert times.expected(KIND, 0.01).mean_s == pytest.approx(0.01)


def test_who_leaves_while_others_stay_gets_nothing(loop: EventLoop) -> None:
    doubler = Doubler()
    requests = [request(loop, doubler.work, b"%d" % n) for n in (1, 2)]
    doubler.step = requests[0].leave
    assert ran(loop, requests) == [None, b"4"]


def test_time_is_shared_by_price_among_those_that_were_answered(loop: EventLoop) -> None:
    doubler = Doubler()
    times = ServiceTimes()
    requests = [
        request(loop, doubler.work, b"1", 0.01, "cheap"),
        request(loop, doubler.work, b"2", 0.03, "dear"),
        request(loop, doubler.work, b"no number", 5.0, "bad"),
    ]
    seconds = iter((100.0, 108.0))
    answer(times, partial(next, seconds), requests)
    assert times.expected("cheap", 0.01).mean_s == pytest.approx(2)
    assert times.expected("dear", 0.03).mean_s == pytest.approx(6)
    assert times.expected("bad", 5.0).mean_s == 5.0


def test_a_caller_that_gave_up_waiting_is_no_error(loop: EventLoop) -> None:
    doubler = Doubler()
    requests = [request(loop, doubler.work, message) for message in (b"1", b"x")]
    for one in requests:
        loop.loop.call_soon_threadsafe(one.answer.cancel)
    answer(ServiceTimes(), time.monotonic, requests)

    async def cancelled() -> list[bool]:
        return [one.answer.cancelled() for one in requests]

    assert loop.run(cancelled()) == [True, True]


def test_a_loop_that_is_closed_has_no_callers(loop: EventLoop) -> None:
    doubler = Doubler()
    other = EventLoop("gone")
    requests = [request(other, doubler.work, message) for message in (b"1", b"x")]
    other.stop()
    answer(ServiceTimes(), time.monotonic, requests)
    assert doubler.batches == [[1]]


def test_all_fields_are_those_of_the_surface(loop: EventLoop, store: Path) -> None:
    (folder,) = Store(store).published("shop")
    work = Work(meshfold_v1, Runner.open(folder, "shop"), Limits())
    query = Query("shop", 5, history=np.array([10, 20]), fields=("title", ALL_FIELDS))
    (message,) = ran(loop, [request(loop, work, encode_request(query))])
    assert list(decode_response(message).fields) == ["title", "language", "year"]
