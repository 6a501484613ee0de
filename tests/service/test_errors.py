from __future__ import annotations

import logging
from concurrent.futures import CancelledError

import grpc
import pytest

from meshfold.model.errors import (
    DeadlineExceeded,
    InvalidData,
    InvalidQuery,
    Overloaded,
    SnapshotRefused,
    UnknownName,
)
from meshfold.service.errors import NothingServed, status_of


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
