"""Maps errors to gRPC statuses; no other module does."""

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

# The errors by which gRPC reports another server's status.
_STATUS = (grpc.Call, grpc.aio.AioRpcError)

# Most characters of a status message. It is sent in headers, limited to 8 KiB, at up to 12 bytes a character.
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
    """The code and details for the caller. Another server's status is passed on unchanged. Details of internal errors
    are only in the log."""
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
    """Whether the error is another server's status."""
    return isinstance(error, _STATUS)


def code_of(error: Exception) -> grpc.StatusCode:
    if isinstance(error, _STATUS):
        return error.code()
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    # gRPC's server context raises a bare RpcError once the caller has left.
    if isinstance(error, CancelledError | grpc.RpcError):
        return grpc.StatusCode.CANCELLED
    return grpc.StatusCode.INTERNAL


def retry_after_s(error: Exception) -> float:
    """Seconds after which to retry a refused call; 0 where unknown."""
    return error.retry_after_s if isinstance(error, Overloaded | Unavailable) else 0.0


def log_failure(what: str, error: BaseException) -> None:
    """Logs the source line of an error. Its text may quote a request, so only debug logs have it."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    _log.error("%s: %s\n%s", what, type(error).__qualname__, frames.rstrip())
    _log.debug("%s: text of the error above", what, exc_info=error)
