from __future__ import annotations

import logging
from concurrent.futures import CancelledError

import grpc
import grpc.aio
import pytest

from meshfold.model.errors import (
    DeadlineExceeded,
    InvalidData,
    InvalidQuery,
    Overloaded,
    SnapshotRefused,
    Unavailable,
    UnknownName,
)
from meshfold.service.errors import NothingServed, retry_after_s, status_of


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidQuery("filter.match", "a match without values"), grpc.StatusCode.INVALID_ARGUMENT),
        (UnknownName("no surface 'a'"), grpc.StatusCode.NOT_FOUND),
        (Overloaded("full"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (DeadlineExceeded("late"), grpc.StatusCode.DEADLINE_EXCEEDED),
        (NothingServed("nothing"), grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_an_error_of_the_caller_or_the_load_is_told_to_the_caller_alone(
    error: Exception, code: grpc.StatusCode, caplog: pytest.LogCaptureFixture
) -> None:
    assert status_of(error) == (code, str(error))
    assert not caplog.records


def test_a_caller_that_left_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    assert status_of(CancelledError())[0] is grpc.StatusCode.CANCELLED
    assert not caplog.records


def test_another_servers_status_is_told_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), grpc.aio.Metadata(), "x" * 600
    )
    assert status_of(error) == (grpc.StatusCode.NOT_FOUND, "x" * 600)
    assert not caplog.records


def test_a_hint_when_to_come_back_is_that_of_the_error() -> None:
    assert retry_after_s(Overloaded("full", 0.25)) == 0.25
    assert retry_after_s(Unavailable("down", 2.0)) == 2.0
    assert retry_after_s(Overloaded("full")) == retry_after_s(UnknownName("x")) == 0


@pytest.mark.parametrize("kind", [KeyError, InvalidData, SnapshotRefused, TimeoutError])
def test_an_error_of_ours_is_logged_without_text_that_may_quote_the_request(
    kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    text = "user 42 likes jazz"  # apart from the raise, whose line is in the log
    try:
        raise kind(text)
    except Exception as error:
        code, details = status_of(error)
    assert code is grpc.StatusCode.INTERNAL
    assert "jazz" not in details + caplog.text
    assert kind.__qualname__ in caplog.text
    assert "test_errors.py" in caplog.text


def test_details_fit_into_the_headers_that_peers_accept() -> None:
    _, details = status_of(InvalidQuery("fields", "\U0001f600" * 5000))
    assert len(details) == 500
    assert details.endswith("...")
