"""Errors, by the party at fault. service/errors.py maps them to statuses."""

from __future__ import annotations


class MeshfoldError(Exception):
    """An error of meshfold. Its text says in one line what was expected, what came, and the remedy."""


class InvalidQuery(MeshfoldError):
    """The caller's fault: a part of the request does not fit; `path` names it: `filter.range.field`."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message

    def __reduce__(self) -> tuple[type[InvalidQuery], tuple[str, str]]:
        return type(self), (self.path, self.message)

    def within(self, whole: str) -> InvalidQuery:
        """The same of a part of `whole`."""
        return InvalidQuery(f"{whole}.{self.path}", self.message)


class UnknownName(MeshfoldError):
    """The caller's fault: a surface or a formula that is not served."""


# Stands for a retry time where a retry would be refused again.
NEVER = -1.0


class Overloaded(MeshfoldError):
    """The load's fault: there is no room for another request now. retry_after_s: when there may be; 0 for no hint,
    NEVER for a request that should not be tried again as it is."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unprepared(MeshfoldError):
    """The operator's part: something else must be done first."""


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
    """A snapshot that is not whole, or not what its manifest says; names the file."""
