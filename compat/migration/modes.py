"""The modes of surfaces, and their changes with who, why and when."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from meshfold.model.errors import InvalidQuery

# Most changes in Modes; mode_history.py has older ones.
MOST_CHANGES = 100
# Most surfaces with a mode of their own; each is a label of several metrics.
MOST_SURFACES = 100
# Most characters of a surface's name, of who and of why.
MOST_CHARACTERS = 1000


class Kind(StrEnum):
    """The kinds of modes, by answering and shadowing side."""

    MESH = "mesh"
    MIRROR = "mirror"
    CANARY = "canary"
    SERVE = "serve"
    ONLY = "only"


@dataclass(frozen=True)
class Mode:
    """A mode. percent: percentage of users that the model answers in a canary, 0 to 100."""

    kind: Kind
    percent: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.percent) and 0 <= self.percent <= 100):
            raise InvalidQuery("mode.percent", f"must be 0 to 100, got {self.percent}")
        if self.percent and self.kind is not Kind.CANARY:
            raise InvalidQuery("mode.percent", f"goes with canary alone, not with {self.kind}")

    def __str__(self) -> str:
        return f"canary {self.percent:g} %" if self.kind is Kind.CANARY else str(self.kind)

    @property
    def wants_model(self) -> bool:
        """Whether the model answers or shadows."""
        return self.kind is not Kind.MESH


@dataclass(frozen=True)
class Change:
    """A change of a mode. surface: "" for the default. kill: whether the kill switch made it, for all surfaces."""

    surface: str
    mode: Mode
    who: str = ""
    why: str = ""
    unix_ms: int = 0
    kill: bool = False

    def __post_init__(self) -> None:
        for name in ("surface", "who", "why"):
            size = len(getattr(self, name))
            if size > MOST_CHARACTERS:
                raise InvalidQuery(name, f"has {size} characters; at most {MOST_CHARACTERS} are allowed")


@dataclass(frozen=True)
class Modes:
    """All modes. generation: number of changes so far. history: the latest changes, newest first."""

    generation: int = 0
    default: Change = Change("", Mode(Kind.MESH))
    surfaces: Mapping[str, Change] = field(default_factory=dict)
    history: tuple[Change, ...] = ()

    def of(self, surface: str) -> Mode:
        """The mode of a surface: its own, else the default."""
        own = self.surfaces.get(surface)
        return (own or self.default).mode

    def changed(self, change: Change) -> Modes:
        """The modes after a change. Raises InvalidQuery."""
        if not change.surface:
            return self._next(change, default=change)
        if change.surface not in self.surfaces and len(self.surfaces) >= MOST_SURFACES:
            raise InvalidQuery(
                "surface",
                f"{len(self.surfaces)} surfaces have modes of their own, and at most {MOST_SURFACES} may; "
                "let one follow the default first (`meshfold mode SURFACE default`)",
            )
        return self._next(change, surfaces={**self.surfaces, change.surface: change})

    def dropped(self, change: Change) -> Modes:
        """The modes without a surface's own mode. The change contains the default, which then applies."""
        surfaces = {name: own for name, own in self.surfaces.items() if name != change.surface}
        return self._next(change, surfaces=surfaces)

    def killed(self, who: str, why: str, unix_ms: int) -> Modes:
        """The modes after a kill: the mesh answers everything."""
        change = Change("", Mode(Kind.MESH), who, why, unix_ms, kill=True)
        return self._next(
            change, default=change, surfaces={name: replace(change, surface=name) for name in self.surfaces}
        )

    def _next(
        self, change: Change, default: Change | None = None, surfaces: Mapping[str, Change] | None = None
    ) -> Modes:
        return Modes(
            generation=self.generation + 1,
            default=default or self.default,
            surfaces=self.surfaces if surfaces is None else surfaces,
            history=(change, *self.history)[:MOST_CHANGES],
        )
