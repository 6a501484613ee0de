"""The audit log: every decision about a surface with its figures, one line of JSON each, append-only."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from meshfold.model.errors import NotDurable
from meshfold.service.state_file import append_lines, last_bytes

# First number of bytes to read back for the latest lines; more are read if needed.
_TAIL_BYTES = 256 << 10
# The end of the year 9999.
LAST_UNIX_MS = 253_402_300_799_000


class Action(StrEnum):
    """Kinds of decisions."""

    START = "start"
    PROMOTE = "promote"
    HOLD = "hold"
    RESTART = "restart"
    FALL_BACK = "fall back"
    DONE = "done"
    PAUSE = "pause"
    RESUME = "resume"
    OVERRIDE = "override"
    ABORT = "abort"


class By(StrEnum):
    GATE = "gate"
    OPERATOR = "operator"


@dataclass(frozen=True)
class AuditEntry:
    """One decision.

    number: counts the decisions of a ramp, from 1. ramp: the ramp's name. step: the surface's step after the
    decision. before, after: modes; "from" and "to" in JSON. who: the operator, if one decided. verdict: the gate's,
    as JSON; None if the gate had no part. served_users: number of users in compared pairs that the model answered in
    the step before the decision. causes: number of differing items in that step's pairs by cause, where causes were
    computed.
    """

    number: int
    ramp: str
    unix_ms: int
    surface: str
    step: int
    action: Action
    before: str
    after: str
    by: By
    who: str
    why: str
    verdict: Mapping[str, Any] | None = None
    served_users: int = 0
    causes: Mapping[str, int] = field(default_factory=dict)

    @property
    def tag(self) -> str:
        """The first words of the reason of every mode change by this decision, and of no other change."""
        return f"{tag_of(self.ramp)}{self.number}:"

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "ramp": self.ramp,
            "unix_ms": self.unix_ms,
            "surface": self.surface,
            "step": self.step,
            "action": self.action.value,
            "from": self.before,
            "to": self.after,
            "by": self.by.value,
            "who": self.who,
            "why": self.why,
            "served_users": self.served_users,
            "causes": dict(self.causes),
            "verdict": self.verdict,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Raises ValueError."""
        try:
            return cls(
                number=int(found["number"]),
                ramp=str(found["ramp"]),
                unix_ms=unix_ms_of(found["unix_ms"]),
                surface=str(found["surface"]),
                step=int(found["step"]),
                action=Action(found["action"]),
                before=str(found["from"]),
                after=str(found["to"]),
                by=By(found["by"]),
                who=str(found["who"]),
                why=str(found["why"]),
                verdict=found["verdict"],
                served_users=int(found["served_users"]),
                causes={str(cause): int(count) for cause, count in found["causes"].items()},
            )
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"no entry of an audit log: {type(error).__name__} {error}") from None


def unix_ms_of(value: Any) -> int:
    """A time in milliseconds that a calendar can show. Raises ValueError, TypeError, OverflowError."""
    unix_ms = int(value)
    if not 0 <= unix_ms <= LAST_UNIX_MS:
        raise ValueError(f"a moment must be 0 to {LAST_UNIX_MS} ms since 1970, got {unix_ms}")
    return unix_ms


def tag_of(ramp: str) -> str:
    """The first words of the reason of every mode change by any decision of a ramp."""
    return f"ramp {ramp} decision "


class AuditLog:
    """The append-only file FILE. A process holds the lock of FILE.lock while it appends."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def catch_up(self, entries: Sequence[AuditEntry]) -> None:
        """Appends the given decisions that the log lacks, durably. Raises NotDurable."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock():
                last = {ramp: self.last_number(ramp) for ramp in {entry.ramp for entry in entries}}
                missing = sorted((e for e in entries if e.number > last[e.ramp]), key=lambda e: e.number)
                if missing:
                    append_lines(self.path, "".join(map(_line, missing)).encode())
        except OSError as error:
            raise NotDurable(
                f"the audit log {self.path} cannot be written: {error.strerror}; no mode is changed until it can"
            ) from None

    def last_number(self, ramp: str | None = None) -> int:
        """Number of the latest entry, or of one ramp's latest entry; 0 if there is none. Raises OSError."""
        latest = self.latest(1, ramp)
        return latest[0].number if latest else 0

    def latest(self, count: int, ramp: str | None = None) -> Sequence[AuditEntry]:
        """The latest entries, newest first; of one ramp if named. Skips lines cut off by a kill. Raises OSError."""
        tail = _TAIL_BYTES
        while True:
            content = last_bytes(self.path, tail) or b""
            found = [entry for entry in _entries(content) if ramp in (None, entry.ramp)]
            if len(found) >= count or len(content) < tail:
                return found[-count:][::-1]
            tail *= 4

    @contextmanager
    def _lock(self) -> Iterator[None]:
        path = self.path.with_name(self.path.name + ".lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _line(entry: AuditEntry) -> str:
    return json.dumps(entry.to_json(), ensure_ascii=False) + "\n"


def _entries(content: bytes) -> Iterator[AuditEntry]:
    for line in content.split(b"\n"):
        try:
            yield AuditEntry.from_json(json.loads(line))
        except (ValueError, RecursionError):  # cut off by a kill or by the tail
            continue
