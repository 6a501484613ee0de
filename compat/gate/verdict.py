"""The gate's verdict on one surface: yes, no, or not enough evidence yet, with its reasons."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Self


class Decision(StrEnum):
    YES = "yes"
    NO = "no"
    NOT_ENOUGH = "not_enough"


# Order of reasons: those that stop the model, those without enough evidence, the rest.
_ORDER = (Decision.NO, Decision.NOT_ENOUGH, Decision.YES)
_NUMBERS = ("value", "low", "high", "bound")


@dataclass(frozen=True)
class Reason:
    """One question of the gate with its answer.

    name: "overlap@100", "violations", "model_catalog", "model_filter", "exposure", "exposure genres=Drama", "errors",
    "p99", the name of another measure or of a query. sentence: for people, with the figure, its bound and the remedy.
    value: the estimate. low, high: its bounds, which hold at all looks together. bound: the limit for value. NaN for
    a number that does not exist.
    """

    name: str
    decision: Decision
    sentence: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    bound: float = math.nan

    def to_json(self) -> dict[str, Any]:
        """NaN and infinite numbers become null."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        return {"name": self.name, "decision": self.decision.value, "sentence": self.sentence, **finite}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Raises ValueError."""
        _check_names(cls, document)
        name, sentence = _text(document, "name"), _text(document, "sentence")
        numbers = [_number(document, each) for each in _NUMBERS]
        return cls(name, Decision(document["decision"]), sentence, *numbers)


@dataclass(frozen=True)
class Verdict:
    """The gate's verdict on one surface.

    reasons: those that stop the model first, then those without enough evidence, then the rest. pairs: number of
    pairs judged. noise_pairs: pairs whose request the mesh answered twice. users: number of users in the pairs.
    from_unix_ms, to_unix_ms: times of the first and the last pair; 0 if unknown.
    """

    surface: str
    decision: Decision
    reasons: tuple[Reason, ...]
    pairs: int
    noise_pairs: int
    users: int
    from_unix_ms: int = 0
    to_unix_ms: int = 0

    def to_json(self) -> dict[str, Any]:
        """A document for json.dumps, also with allow_nan=False."""
        document = {each.name: getattr(self, each.name) for each in fields(self)}
        reasons = [reason.to_json() for reason in self.reasons]
        return document | {"decision": self.decision.value, "reasons": reasons}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The verdict of a document by to_json; infinite numbers become NaN. Raises ValueError."""
        _check_names(cls, document)
        if not isinstance(document["reasons"], list):
            raise ValueError(f"reasons must be a list, got {type(document['reasons']).__name__}")
        counts = ("pairs", "noise_pairs", "users", "from_unix_ms", "to_unix_ms")
        return cls(
            surface=_text(document, "surface"),
            decision=Decision(document["decision"]),
            reasons=tuple(Reason.from_json(reason) for reason in document["reasons"]),
            **{name: _count(document, name) for name in counts},
        )


def ordered(reasons: list[Reason]) -> tuple[Reason, ...]:
    return tuple(sorted(reasons, key=lambda reason: _ORDER.index(reason.decision)))


def decision_of(reasons: tuple[Reason, ...]) -> Decision:
    """NO if any reason is NO, YES if all are YES."""
    return min((reason.decision for reason in reasons), key=_ORDER.index, default=Decision.NOT_ENOUGH)


def _check_names(of: type[Verdict] | type[Reason], document: object) -> None:
    names = {each.name for each in fields(of)}
    if not isinstance(document, Mapping) or document.keys() != names:
        found = sorted(document) if isinstance(document, Mapping) else type(document).__name__
        raise ValueError(f"expected an object with {', '.join(sorted(names))}, got {found}")


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a text, got {value!r:.60}")
    return value


def _number(document: Mapping[str, Any], name: str) -> float:
    value = document[name]
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number or null, got {value!r:.60}")
    return float(value)


def _count(document: Mapping[str, Any], name: str) -> int:
    value = document[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} must be a whole number from 0, got {value!r:.60}")
    return value
