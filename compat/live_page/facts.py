"""What the page is made of, whether a server or files tell it."""

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

    now: counts and figures of the span that the page speaks of. points: over time, oldest first. mode: None where
    nothing tells. changes: of the mode, newest first. ramp: None where there is none. decisions: of the ramp, newest
    first.
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
    """unix_ms: when it was so. about: where the pairs come from, in words. span: of `SurfaceFacts.now`, in words behind
    a number. troubles: sentences about what is wrong with the comparison itself. notes: sentences for the reader.
    left_out: pairs by why they are not in the figures.
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
    """What takes long to compute of a surface. html: parts of a report; "" while they are computed for the first time.
    caption: which pairs they are of, and from when; or why there are none."""

    html: str
    caption: str


class Source(Protocol):
    """Gives what the page shows. Called on threads of the page, never on the loop that answers callers."""

    def facts(self) -> PageFacts: ...

    def details(self, surface: str) -> Details:
        """At once: what was computed last. It is computed again in the background where it is old."""
