"""Settings of the gate: the [gate] table of a TOML file, or flags of `meshfold gate`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints
from urllib.parse import urlsplit

from meshfold.compat.shadow.comparison import DEPTHS, Cause
from meshfold.model.errors import InvalidConfig
from meshfold.model.schema import nearest

# Measures from 0 to 1 where 1 means the same answer, so that a margin is meaningful.
MARGINED = (
    *(f"{name}@{depth or 'K'}" for name in ("overlap", "jaccard", "ndcg") for depth in (*DEPTHS, 0)),
    "rbo",
)
# Causes for which answers alone do not show the side at fault; an operator who knows it may accept them.
ACCEPTABLE = (Cause.USER_VECTOR, Cause.SCORES, Cause.MODEL_CATALOG, Cause.CAP)
_MOST_ENTRIES = 100
_MOST_TEXT = 10_000


@dataclass(frozen=True)
class PrometheusQuery:
    """A query that must give one number within bounds.

    url: the Prometheus server. timeout_s: for the whole answer.
    """

    name: str
    url: str
    query: str
    at_least: float = -math.inf
    at_most: float = math.inf
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        for name in ("name", "url", "query"):
            text = getattr(self, name)
            _check(f"queries.{name}", len(text), 0 < len(text) <= _MOST_TEXT, f"1 to {_MOST_TEXT} characters")
        if not _is_server(self.url):
            raise InvalidConfig(
                f"gate.queries.url must be such as http://prometheus:9090, got {self.url!r:.100}; name the server alone"
            )
        if not self.at_least <= self.at_most or (self.at_least, self.at_most) == (-math.inf, math.inf):
            raise InvalidConfig(
                f"gate.queries {self.name!r:.100}: expected at_least, at_most, or both in this order, got "
                f"{self.at_least:g} and {self.at_most:g}"
            )
        _check("queries.timeout_s", self.timeout_s, 0 < self.timeout_s <= 60, "over 0 and at most 60")


@dataclass(frozen=True)
class GateSettings:
    """The gate's questions with their bounds. Shares are from 0 to 1. Raises InvalidConfig for a value out of bounds.

    For a setting with a `stop` and a `pass` form: the model is stopped once its figure is surely beyond the first, and
    passes once its figure is surely within the second.
    """

    margin: Annotated[float, "overlap that the model may lose beyond the mesh's own noise"] = 0.02
    depth: Annotated[int, "number of results whose overlap counts: 10, 50, 100, or 0 for all"] = 100
    error_rate: Annotated[float, "chance of a wrong yes, and of a wrong no, at all looks together"] = 0.01
    min_users: Annotated[int, "users needed to decide; violations and errors stop the model with fewer"] = 200
    violations: Annotated[float, "share of the model's items that the filter may not admit"] = 0.0
    causes_stop: Annotated[float, "share of items lost by the model's catalog or filter that stops it"] = 0.01
    causes_pass: Annotated[
        float, "share of items lost that way below which it passes; 1 turns the question off"
    ] = 0.02
    causes_share: Annotated[float, "share of users, drawn by a hash, whose pairs get causes"] = 1.0
    exposure_margin: Annotated[float, "allowed relative change of a field value's share of results"] = 0.2
    exposure_share: Annotated[float, "least share of either side's results for a value to be checked"] = 0.02
    errors_stop: Annotated[float, "rate of errors over the mesh's that stops the model"] = 0.0005
    errors_pass: Annotated[float, "rate of errors over the mesh's below which the model passes"] = 0.005
    p99_ratio: Annotated[float, "factor on the mesh's p99, before milliseconds are added"] = 1.0
    p99_stop_ms: Annotated[
        float, "ms above p99_ratio times the mesh's p99 that stop the model; inf turns the question off"
    ] = 10.0
    p99_pass_ms: Annotated[float, "ms above the same, below which the model passes"] = 20.0
    # Margins of further measures by name, such as {"rbo": 0.02}; margins of exposure by field or "field=value".
    measures: Mapping[str, float] = field(default_factory=dict)
    exposure_margins: Mapping[str, float] = field(default_factory=dict)
    queries: tuple[PrometheusQuery, ...] = ()
    # Causes that the operator knows to be the mesh's fault, or wanted; see ACCEPTABLE.
    accepted_causes: tuple[Cause, ...] = ()

    def __post_init__(self) -> None:
        _check("margin", self.margin, 0 < self.margin < 1, "over 0 and under 1")
        _check("depth", self.depth, self.depth in (*DEPTHS, 0), "10, 50, 100, or 0 for all results")
        _check("error_rate", self.error_rate, 1e-6 <= self.error_rate <= 0.1, "from 0.000001 to 0.1")
        _check("min_users", self.min_users, self.min_users >= 20, "at least 20")
        _check("violations", self.violations, 0 <= self.violations < 1, "from 0 and under 1")
        _check("causes_share", self.causes_share, 0 < self.causes_share <= 1, "over 0 and at most 1")
        _check("exposure_margin", self.exposure_margin, 0 < self.exposure_margin < 1, "over 0 and under 1")
        _check("exposure_share", self.exposure_share, 0 < self.exposure_share < 1, "over 0 and under 1")
        _check("p99_ratio", self.p99_ratio, 0 < self.p99_ratio <= 100, "over 0 and at most 100")
        for name, most in (("causes", 1.0), ("errors", 1.0)):
            self._check_order(f"{name}_stop", f"{name}_pass", most)
        if self.asks_p99:
            self._check_order("p99_stop_ms", "p99_pass_ms", 1e6)
        for name, margin in self.measures.items():
            if name not in MARGINED:
                raise InvalidConfig(f"gate.measures: unknown measure {name!r:.100}{nearest(name, MARGINED)}")
            _check(f"measures.{name}", margin, 0 < margin < 1, "over 0 and under 1")
        if f"overlap@{self.depth or 'K'}" in self.measures:
            raise InvalidConfig(
                "gate.measures: overlap at gate.depth is a question already; set gate.margin for it"
            )
        for name, margin in self.exposure_margins.items():
            _check(f"exposure_margins.{name!r:.100}", margin, 0 < margin < 1, "over 0 and under 1")
        for name in ("measures", "exposure_margins", "queries"):
            count = len(getattr(self, name))
            _check(name, count, count <= _MOST_ENTRIES, f"at most {_MOST_ENTRIES} entries")
        names = [query.name for query in self.queries]
        if len(set(names)) < len(names):
            raise InvalidConfig("gate.queries: two queries have one name; give each its own")

    @property
    def overlap(self) -> str:
        """The measure whose margin is `margin`."""
        return f"overlap@{self.depth or 'K'}"

    @property
    def asks_causes(self) -> bool:
        return self.causes_pass < 1

    @property
    def asks_p99(self) -> bool:
        return self.p99_stop_ms != math.inf

    def _check_order(self, stop: str, passes: str, most: float) -> None:
        low, high = getattr(self, stop), getattr(self, passes)
        _check(stop, low, 0 <= low < most, f"from 0 and under {most:g}")
        _check(passes, high, low < high <= most, f"over {stop} ({low:g}) and at most {most:g}")


@dataclass(frozen=True)
class Flag:
    """A setting that is one number."""

    name: str
    kind: type[int] | type[float]
    meaning: str
    default: float

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"


def flags() -> tuple[Flag, ...]:
    """The settings that are one number, in their order."""
    hints = get_type_hints(GateSettings, include_extras=True)
    found = []
    for each in fields(GateSettings):
        if len(hint := get_args(hints[each.name])) == 2 and hint[0] in (int, float):
            found.append(Flag(each.name, hint[0], hint[1], each.default))  # type: ignore[arg-type]
    return tuple(found)


def settings_of(table: Mapping[str, Any], source: Path | str) -> GateSettings:
    """The settings of a [gate] table as tomllib reads it. source: names the file in errors. Raises InvalidConfig."""
    try:
        return GateSettings(**_values(table))
    except InvalidConfig as error:
        raise InvalidConfig(f"{source}: {error}") from None


def _values(table: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {each.name: each.kind for each in flags()}
    known = {each.name for each in fields(GateSettings)}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            raise InvalidConfig(f"unknown setting gate.{name:.100}{nearest(name, known)}")
        if name in numbers:
            values[name] = _number(f"gate.{name}", value, numbers[name])
        elif name == "queries":
            values[name] = tuple(_query(one) for one in _list(value))
        elif name == "accepted_causes":
            values[name] = _causes(value)
        else:
            values[name] = {
                key: _number(f"gate.{name}.{key}", each, float) for key, each in _table(name, value)
            }
    return values


def _causes(value: object) -> tuple[Cause, ...]:
    acceptable = [cause.value for cause in ACCEPTABLE]
    if not isinstance(value, list):
        raise InvalidConfig(
            f"gate.accepted_causes must be a list of {', '.join(acceptable)}, got {value!r:.100}"
        )
    for name in value:
        if name not in acceptable:
            raise InvalidConfig(
                f"gate.accepted_causes: {name!r:.100} cannot be accepted{nearest(str(name), acceptable)}; possible are "
                f"{', '.join(acceptable)}"
            )
    return tuple(Cause(name) for name in dict.fromkeys(value))


def _query(value: object) -> PrometheusQuery:
    hints = get_type_hints(PrometheusQuery)
    given: dict[str, Any] = {}
    for name, each in _table("queries", value):
        if name not in hints:
            raise InvalidConfig(f"unknown setting gate.queries.{name:.100}{nearest(name, hints)}")
        if hints[name] is float:
            given[name] = _number(f"gate.queries.{name}", each, float)
        elif isinstance(each, str):
            given[name] = each
        else:
            raise InvalidConfig(f"gate.queries.{name} must be a text, got {each!r:.100}")
    if missing := [name for name in ("name", "url", "query") if name not in given]:
        raise InvalidConfig(f"gate.queries: {missing[0]} is missing; a query has a name, a url and a query")
    return PrometheusQuery(**given)


def _table(name: str, value: object) -> list[tuple[str, object]]:
    if not isinstance(value, Mapping):
        raise InvalidConfig(f"gate.{name} must be a table, got {value!r:.100}")
    return list(value.items())


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise InvalidConfig(f"gate.queries must be [[gate.queries]] tables, got {value!r:.100}")
    return value


def _number(name: str, value: object, kind: type[int] | type[float]) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, kind)):
        words = "a whole number" if kind is int else "a number"
        raise InvalidConfig(f"{name} must be {words}, got {value!r:.100}")
    return kind(value)


def _is_server(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, or a port that is none
        return False


def _check(name: str, value: float, is_valid: bool, expected: str) -> None:
    if not is_valid or math.isnan(value):
        raise InvalidConfig(f"gate.{name} must be {expected}, got {value:g}")
