"""Errors, one class for each party at fault. service/errors.py maps them to statuses."""

from __future__ import annotations


class MeshfoldError(Exception):
    """Base class of errors. A message is one line with the expected value, the actual value and the remedy."""


class InvalidQuery(MeshfoldError):
    """The caller's fault: a bad part of a request. path: of that part, such as `filter.range.field`."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message

    def __reduce__(self) -> tuple[type[InvalidQuery], tuple[str, str]]:
        return type(self), (self.path, self.message)

    def within(self, whole: str) -> InvalidQuery:
        """The same error with the path prefixed by `whole`."""
        return InvalidQuery(f"{whole}.{self.path}", self.message)


class UnknownName(MeshfoldError):
    """The caller's fault: a surface or a formula that is not served."""


# The retry time of a request that every retry would find refused.
NEVER = -1.0


class Overloaded(MeshfoldError):
    """The load's fault: there is no room for another request now.

    retry_after_s: seconds until a retry may succeed; 0 for unknown, NEVER for a request that is too large at any time.
    """

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unprepared(MeshfoldError):
    """The operator's part: a step before this one is missing."""


class NotDurable(MeshfoldError):
    """The operator's part: a change could not be written durably."""


class DeadlineExceeded(MeshfoldError):
    """The load's fault: the caller's deadline passed before the answer was ready."""


class Unavailable(MeshfoldError):
    """The operator's part: the service is not available. retry_after_s: seconds until it may be; 0 for unknown."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class InvalidData(MeshfoldError):
    """The publisher's fault: a schema, catalog or interaction that cannot be used."""


class InvalidConfig(MeshfoldError):
    """The operator's fault: a setting that does not fit."""


class SnapshotRefused(MeshfoldError):
    """A snapshot that is damaged, or differs from its manifest. The message names the file."""
