"""The expression tree of a filter, into which protocols and the text form decode.

An item without the field satisfies no Match and no Range. Not is exact negation, so that it includes items without the
field; Exists excludes them.
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
    """The item's number lies between the bounds; None is no bound. `inclusive` applies to both."""

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
    """Every filter is true; true without filters."""

    filters: tuple[Expression, ...] = ()


@dataclass(frozen=True)
class Any:
    """At least one filter is true; false without filters."""

    filters: tuple[Expression, ...] = ()


@dataclass(frozen=True)
class AtLeast:
    """At least `count` of the filters are true; true for count 0."""

    count: int
    filters: tuple[Expression, ...] = ()


@dataclass(frozen=True)
class Not:
    filter: Expression


Expression = Match | Range | Exists | All | Any | AtLeast | Not
