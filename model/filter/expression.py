"""The tree of a filter, as every protocol and the text form decode it.

An item without the field satisfies no Match and no Range; Not is exact negation; Exists tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Match:
    """The item has any of the values."""

    field: str
    strings: tuple[str, ...] = ()
    ints: tuple[int, ...] = ()


@dataclass(frozen=True)
class Range:
    """The item's number lies between the bounds that are given; `inclusive` holds for both."""

    field: str
    minimum: float | None = None
    maximum: float | None = None
    inclusive: bool = False


@dataclass(frozen=True)
class Exists:
    """The item has the field."""

    field: str


@dataclass(frozen=True)
class All:
    """Every filter holds; true where there are none."""

    filters: tuple[Expression, ...] = ()


@dataclass(frozen=True)
class Any:
    """Some filter holds; false where there are none."""

    filters: tuple[Expression, ...] = ()


@dataclass(frozen=True)
class AtLeast:
    """At least `count` of the filters hold; true where count is 0."""

    count: int
    filters: tuple[Expression, ...] = ()


@dataclass(frozen=True)
class Not:
    filter: Expression


Expression = Match | Range | Exists | All | Any | AtLeast | Not
