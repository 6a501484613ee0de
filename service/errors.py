"""Errors as statuses: the one place where the two meet."""

from __future__ import annotations

import logging
import traceback
from concurrent.futures import CancelledError

import grpc
import grpc.aio

from meshfold.model.errors import (
    DeadlineExceeded,
    InvalidQuery,
    NotDurable,
    Overloaded,
    Unavailable,
    UnknownName,
    Unprepared,
)

_log = logging.getLogger(__name__)

# Another server's status.
_STATUS = (grpc.Call, grpc.aio.AioRpcError)

# A status travels in headers, which peers cap at 8 KiB; a character takes up to 12 bytes there.
_MOST_CHARACTERS = 500


class NothingServed(Unavailable):
    """No snapshot is loaded yet."""


_CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (InvalidQuery, grpc.StatusCode.INVALID_ARGUMENT),
    (UnknownName, grpc.StatusCode.NOT_FOUND),
    (Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
    (Unprepared, grpc.StatusCode.FAILED_PRECONDITION),
    (NotDurable, grpc.StatusCode.INTERNAL),
)


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The code and details that the caller gets; another server's as they are. Of an error that is ours, only the log
    says more."""
    code = code_of(error)
    if isinstance(error, _STATUS):
        return code, error.details() or ""
    if code is grpc.StatusCode.CANCELLED:
        return code, "the caller cancelled"
    if any(isinstance(error, kind) for kind, _ in _CODES):
        text = str(error)
        return code, text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 3] + "..."
    log_failure("a request failed", error)
    return code, "internal error; the server's log says where"


def is_anothers(error: Exception) -> bool:
    """Whether it is a status that another server gave."""
    return isinstance(error, _STATUS)


def code_of(error: Exception) -> grpc.StatusCode:
    if isinstance(error, _STATUS):
        return error.code()
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    # A server's context raises a bare RpcError once its caller has left.
    if isinstance(error, CancelledError | grpc.RpcError):
        return grpc.StatusCode.CANCELLED
    return grpc.StatusCode.INTERNAL


def retry_after_s(error: Exception) -> float:
    """When a refused call is worth trying again; 0 where nothing is known."""
    return error.retry_after_s if isinstance(error, Overloaded | Unavailable) else 0.0


def log_failure(what: str, error: BaseException) -> None:
    """Logs where an error came from. Its text may quote a request, so that is for debug logs alone."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    _log.error("%s: %s\n%s", what, type(error).__qualname__, frames.rstrip())
    _log.debug("%s: text of the error above", what, exc_info=error)
