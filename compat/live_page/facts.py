"""The content of the page, from a server or from files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from meshfold.compat.migration.modes import Change, Mode
from meshfold.compat.shadow.live.history import Point
from meshfold.compat.shadow.live.tally import Tally

if TYPE_CHECKING:
    from meshfold.compat.ramp.audit_log import AuditEntry
    from meshfold.compat.ramp.status import Status


@dataclass(frozen=True)
class SurfaceFacts:
    """One surface.

    now: counts and figures over the page's span. points: over time, oldest first. mode: None if unknown. changes: of
    the mode, newest first. ramp: None without one. decisions: of the ramp, newest first.
    """

    name: str
    now: Tally = field(default_factory=Tally)
    points: Sequence[Point] = ()
    mode: Mode | None = None
    changes: Sequence[Change] = ()
    ramp: Status | None = None
    decisions: Sequence[AuditEntry] = ()


@dataclass(frozen=True)
class PageFacts:
    """The content of all pages.

    unix_ms: time of the figures. about: the source of the pairs, in words. span: the time covered by
    `SurfaceFacts.now`, in words that follow a number. troubles: sentences about faults of the comparison itself.
    notes: sentences for the reader. left_out: number of pairs left out of the figures, by reason.
    """

    surfaces: Sequence[SurfaceFacts]
    unix_ms: int
    about: str
    span: str
    troubles: Sequence[str] = ()
    notes: Sequence[str] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Details:
    """Parts of a surface's page that take long to compute.

    html: parts of a report; "" during the first computation. caption: which pairs they cover and the time of these,
    or the reason for having none.
    """

    html: str
    caption: str


class Source(Protocol):
    """The source of the page's content.

    Its methods run on threads of the page, never on the loop that answers callers.
    """

    def facts(self) -> PageFacts: ...

    def details(self, surface: str) -> Details:
        """The latest computed details, without waiting. Old ones are computed again in the background."""
