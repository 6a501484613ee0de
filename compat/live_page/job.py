"""What a process of the page's own is told to find out, and what it tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from typing import Any, Self

from meshfold.compat.shadow.live.history import Point
from meshfold.compat.shadow.live.tally import Tally


@dataclass(frozen=True)
class Job:
    """place: a comparison's folder, or a folder or file of pairs. store: of snapshots; "" for none. surface: whose
    details are wanted; None for the figures of all surfaces. most_pairs: the newest that are read. attribute: pairs
    whose causes are looked for."""

    place: str
    store: str = ""
    surface: str | None = None
    most_pairs: int = 20_000
    attribute: int = 40

    def told(self) -> Mapping[str, Any]:
        """As JSON."""
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
    """surfaces: where figures were wanted. html: where details were. caption: what it is of, or why there is nothing.
    counted: pairs that were left out, by why."""

    caption: str
    surfaces: tuple[FoundSurface, ...] = ()
    html: str = ""
    counted: Mapping[str, int] | None = None

    @property
    def is_any(self) -> bool:
        return bool(self.surfaces or self.html)

    def told(self) -> Mapping[str, Any]:
        """As JSON, with NaN in it."""
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
