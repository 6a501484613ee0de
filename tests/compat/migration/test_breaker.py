from __future__ import annotations

import asyncio
import logging
import time
from contextlib import ExitStack

import grpc
import pytest

from meshfold.compat.migration import breaker
from meshfold.compat.migration.breaker import Breaker
from meshfold.model.errors import DeadlineExceeded, Overloaded, Unavailable
from meshfold.service.migration import MigrationConfig

FAILURES = 8


def made(waiting: int = 1000, opens: bool = True, timeout_s: float = 10.0) -> Breaker:
    return Breaker(MigrationConfig(mesh_timeout_s=timeout_s, mesh_waiting=waiting, fallback=opens))


def succeed(asked: Breaker, surface: str = "shop") -> None:
    with asked.call(surface):
        pass


def fail(asked: Breaker, error: BaseException | None = None, surface: str = "shop") -> None:
    error = error or Unavailable("nobody is there")
    with pytest.raises(type(error)) as caught, asked.call(surface):
        raise error
    assert caught.value is error


def is_refused(asked: Breaker, surface: str = "shop") -> bool:
    try:
        succeed(asked, surface)
    except Unavailable as error:
        return "the mesh does not answer; it is tried again in" in str(error) and error.retry_after_s > 0
    return False


@pytest.fixture
def slow_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mesh that is down is not tried again while a test runs."""
    monkeypatch.setattr(breaker, "_TRY_S", 100.0)
    monkeypatch.setattr(breaker, "_LONGEST_TRY_S", 1000.0)


@pytest.mark.usefixtures("slow_tries")
def test_it_opens_after_failures_in_a_row() -> None:
    own = made()
    for _ in range(FAILURES - 1):
        fail(own)
    succeed(own)
    # An answer begins the row again.
    for _ in range(FAILURES - 1):
        fail(own)
    assert not own.is_open("shop")
    fail(own)
    assert own.is_open("shop")
    assert is_refused(own)


@pytest.mark.usefixtures("slow_tries")
@pytest.mark.parametrize("error", [DeadlineExceeded("late"), Unavailable("down")])
def test_what_counts_as_down_is_silence_and_absence(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "_SILENCE_S", 0.0)
    own = made()
    for _ in range(FAILURES):
        fail(own, error)
    assert own.is_open("shop")


def test_callers_in_a_hurry_do_not_open_it() -> None:
    own = made()
    for _ in range(3 * FAILURES):
        with pytest.raises(DeadlineExceeded):
            hurry(own)
    assert not own.is_open("shop")


def hurry(own: Breaker) -> None:
    with own.call("shop") as asked:
        assert asked.timeout_s(time.monotonic() + 0.002) <= 0.002
        raise DeadlineExceeded("2 ms are short")


def test_a_mesh_that_was_slow_counts_as_down_once_it_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    own = made(timeout_s=2.0)
    later_s = time.monotonic() + 1.0
    with own.call("shop"):
        # Ten times as long as usual is longer than a call may take at all.
        monkeypatch.setattr(time, "monotonic", lambda: later_s)
    for _ in range(FAILURES):
        fail(own, DeadlineExceeded("nothing came"))
    assert own.is_open("shop")


def test_a_call_that_was_never_sent_says_nothing_of_the_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "_TRY_S", 0.0)
    own = made()
    for _ in range(FAILURES):
        fail(own)
    assert own.is_open("shop")
    with pytest.raises(RuntimeError), own.call("shop"):
        raise RuntimeError("metadata that gRPC cannot send")
    assert own.is_open("shop")


def test_a_shadow_is_no_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "_TRY_S", 0.0)
    own = made()
    for _ in range(FAILURES):
        fail(own)
    with pytest.raises(Unavailable), own.call("shop", is_shadow=True):
        raise AssertionError
    with own.call("shop"):
        pass
    assert not own.is_open("shop")


def test_a_status_of_the_meshs_own_is_an_answer() -> None:
    own = made()
    for code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED):
        error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())
        for _ in range(FAILURES):
            fail(own, error)
        assert not own.is_open("shop")
    # As such it ends a row of failures.
    for _ in range(FAILURES - 1):
        fail(own)
    fail(own, error)
    fail(own)
    assert not own.is_open("shop")


def test_a_caller_that_leaves_says_nothing_of_the_mesh() -> None:
    own = made()
    for _ in range(FAILURES - 1):
        fail(own)
    for _ in range(FAILURES):
        fail(own, asyncio.CancelledError())
    assert not own.is_open("shop")
    fail(own)
    assert own.is_open("shop")
    assert own.waiting() == 0


@pytest.mark.usefixtures("slow_tries")
def test_each_surface_is_down_by_itself() -> None:
    own = made()
    for _ in range(FAILURES):
        fail(own)
    assert is_refused(own)
    assert not own.is_open("video")
    assert not is_refused(own, "video")


@pytest.mark.usefixtures("slow_tries")
def test_it_opens_where_many_wait_and_nobody_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "_SILENCE_S", 0.05)
    own = made()
    with ExitStack() as waiting:
        for _ in range(7):
            waiting.enter_context(own.call("shop"))
        time.sleep(0.06)
        # Few that wait may be slow ones.
        waiting.enter_context(own.call("shop"))
        assert not own.is_open("shop")
        assert is_refused(own)
        assert own.is_open("shop")
    # Their answers close it.
    assert not own.is_open("shop")
    assert not is_refused(own)


def test_answers_that_come_keep_it_closed_however_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "_SILENCE_S", 0.05)
    own = made()
    with ExitStack() as waiting:
        with own.call("shop"):
            for _ in range(20):
                waiting.enter_context(own.call("shop"))
            time.sleep(0.06)
        # One of them was answered: the mesh is slow, not silent.
        assert not is_refused(own)
        assert not own.is_open("shop")


def test_a_mesh_that_is_always_slow_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "_SILENCE_S", 0.01)
    own = made()
    with own.call("shop"):
        time.sleep(0.05)
    with ExitStack() as waiting:
        for _ in range(8):
            waiting.enter_context(own.call("shop"))
        time.sleep(0.06)
        # Ten times as long as usual would be.
        assert not is_refused(own)


def test_one_call_tries_a_mesh_that_was_down_and_its_answer_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "_TRY_S", 0.05)
    own = made()
    for _ in range(FAILURES):
        fail(own)
    assert is_refused(own)
    time.sleep(0.06)
    with own.call("shop"):
        # Half-open: the others wait for what becomes of it.
        assert is_refused(own)
        assert own.is_open("shop")
        assert own.waiting() == 1
    assert not own.is_open("shop")
    for _ in range(3):
        succeed(own)
    # A single failure is none in a row.
    fail(own)
    assert not own.is_open("shop")


def test_a_try_that_fails_opens_it_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "_TRY_S", 0.05)
    own = made()
    for _ in range(FAILURES):
        fail(own)
    for _ in range(2):
        while is_refused_without_a_try(own):
            time.sleep(0.005)
        fail(own)
        assert is_refused_without_a_try(own)
    assert own._surfaces["shop"].try_s == pytest.approx(0.2)
    monkeypatch.setattr(breaker, "_LONGEST_TRY_S", 0.3)
    time.sleep(0.21)
    fail(own)
    assert own._surfaces["shop"].try_s == pytest.approx(0.3)
    # Once it answers, all is as at first.
    time.sleep(0.31)
    succeed(own)
    assert own._surfaces["shop"].try_s == pytest.approx(0.05)


def is_refused_without_a_try(own: Breaker) -> bool:
    return time.monotonic() < own._surfaces["shop"].open_until_s


def test_a_try_whose_caller_leaves_lets_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "_TRY_S", 0.02)
    own = made()
    for _ in range(FAILURES):
        fail(own)
    time.sleep(0.03)
    fail(own, asyncio.CancelledError())
    assert own.is_open("shop")
    succeed(own)
    assert not own.is_open("shop")


@pytest.mark.usefixtures("slow_tries")
def test_where_it_does_not_open_it_only_says_so() -> None:
    own = made(opens=False)
    for _ in range(FAILURES):
        fail(own)
    assert own.is_open("shop")
    # Every call is asked still: nobody else could answer it.
    for _ in range(3):
        fail(own)
    assert own.is_open("shop")
    succeed(own)
    assert not own.is_open("shop")


@pytest.mark.parametrize("opens", [True, False])
def test_calls_that_wait_are_bounded_and_no_surface_has_them_all(opens: bool) -> None:
    own = made(waiting=16, opens=opens)
    with ExitStack() as waiting:
        for _ in range(8):
            waiting.enter_context(own.call("shop"))
        with pytest.raises(Overloaded, match="8 calls wait for the mesh already"):
            succeed(own)
        for _ in range(4):
            waiting.enter_context(own.call("video"))
        with pytest.raises(Overloaded, match="4 calls wait"):
            succeed(own, "video")
        assert not is_refused(own, "third")
        assert own.waiting() == 12
    assert own.waiting() == 0
    for _ in range(8):
        succeed(own)


def test_a_refused_call_is_no_failure_of_the_mesh() -> None:
    own = made(waiting=2)
    with own.call("shop"):
        for _ in range(FAILURES):
            with pytest.raises(Overloaded):
                succeed(own)
    assert not own.is_open("shop")
    succeed(own)


def test_a_call_has_the_shorter_of_two_times() -> None:
    with made(timeout_s=3.0).call("shop") as asked:
        assert asked.timeout_s(time.monotonic() + 100) == 3.0
        assert 0.9 < asked.timeout_s(time.monotonic() + 1) <= 1.0
        assert asked.timeout_s(time.monotonic() - 1) == 0.0


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message.partition(" down_s=")[0] for record in caplog.records]


def test_what_it_does_is_logged_once_each(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(breaker, "_TRY_S", 0.0)
    monkeypatch.setattr(breaker, "_LONGEST_TRY_S", 0.0)
    own = made()
    for _ in range(FAILURES):
        fail(own)
    assert told(caplog) == ["mesh breaker open: surface=shop: 8 failures in a row; calls fail at once"]
    # Three tries that fail, and one that does not.
    for _ in range(3):
        fail(own)
    succeed(own)
    assert told(caplog)[1:] == [
        "mesh breaker half-open: surface=shop; one call tries the mesh",
        "mesh breaker closed: surface=shop",
    ]
    assert caplog.records[-1].message.endswith(" tries=4")
    # One that opens and closes all the time is counted, and told once a second.
    for _ in range(5):
        for _ in range(FAILURES):
            fail(own)
        succeed(own)
    assert len(caplog.records) == 3
    assert own.opened == {"shop": 6}


def test_the_log_says_where_calls_go_on_asking(caplog: pytest.LogCaptureFixture) -> None:
    own = made(opens=False)
    for _ in range(FAILURES):
        fail(own)
    assert told(caplog) == ["mesh breaker open: surface=shop: 8 failures in a row; calls go on asking it"]
