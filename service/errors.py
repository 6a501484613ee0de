"""Errors as statuses: the one place where the two meet."""

from __future__ import annotations

import logging
import traceback
from concurrent.futures import CancelledError

import grpc

from meshfold.model.errors import DeadlineExceeded, InvalidQuery, MeshfoldError, Overloaded, UnknownName

_log = logging.getLogger(__name__)

# A status travels in headers, which peers cap at 8 KiB; a character takes up to 12 bytes there.
_MOST_CHARACTERS = 500


class NothingServed(MeshfoldError):
    """The operator's part: no snapshot is loaded yet."""


_CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (InvalidQuery, grpc.StatusCode.INVALID_ARGUMENT),
    (UnknownName, grpc.StatusCode.NOT_FOUND),
    (Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED),
    (NothingServed, grpc.StatusCode.UNAVAILABLE),
)


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The code and details that the caller gets. Of an error that is ours, only the log says more."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            text = str(error)
            return code, text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 3] + "..."
    if isinstance(error, CancelledError):
        return grpc.StatusCode.CANCELLED, "the caller cancelled"
    log_failure("a request failed", error)
    return grpc.StatusCode.INTERNAL, "internal error; the server's log says where"


def log_failure(what: str, error: BaseException) -> None:
    """Logs where an error came from. Its text may quote a request, so that is for debug logs alone."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    _log.error("%s: %s\n%s", what, type(error).__qualname__, frames.rstrip())
    _log.debug("%s: text of the error above", what, exc_info=error)
