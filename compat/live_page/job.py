"""The job that the page gives to its process, and the results that come back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from typing import Any, Self

from meshfold.compat.shadow.live.history import Point
from meshfold.compat.shadow.live.tally import Tally


@dataclass(frozen=True)
class Job:
    """A computation.

    place: a comparison's folder, or a folder or file of pairs. store: of snapshots; "" for none. surface: compute its
    details; None for the figures of all surfaces. most_pairs: number of newest pairs to read. attribute: number of
    pairs to find causes for.
    """

    place: str
    store: str = ""
    surface: str | None = None
    most_pairs: int = 20_000
    attribute: int = 40

    def told(self) -> Mapping[str, Any]:
        """The job as JSON values."""
        return asdict(self)

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Self:
        return cls(**told)


@dataclass(frozen=True)
class FoundSurface:
    """Figures of one surface's pairs. points: over time."""

    name: str
    tally: Tally
    points: tuple[Point, ...]

    def told(self) -> Mapping[str, Any]:
        return {"name": self.name, "tally": self.tally.told(), "points": [astuple(p) for p in self.points]}

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Self:
        tally = Tally()
        tally.add(told["tally"])
        return cls(told["name"], tally, tuple(Point(*values) for values in told["points"]))


@dataclass(frozen=True)
class Found:
    """Results of a job.

    surfaces: figures, if the job was for all surfaces. html: details, if it was for one. caption: the pairs covered,
    or the reason for having no result. counted: number of pairs left out, by reason.
    """

    caption: str
    surfaces: tuple[FoundSurface, ...] = ()
    html: str = ""
    counted: Mapping[str, int] | None = None

    @property
    def is_any(self) -> bool:
        return bool(self.surfaces or self.html)

    def told(self) -> Mapping[str, Any]:
        """The results as JSON values, which may be NaN."""
        return {
            "caption": self.caption,
            "surfaces": [surface.told() for surface in self.surfaces],
            "html": self.html,
            "counted": dict(self.counted or {}),
        }

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Self:
        surfaces = tuple(FoundSurface.read(surface) for surface in told["surfaces"])
        return cls(told["caption"], surfaces, told["html"], told["counted"])
