"""Measures a caller's request on the wire, along a mapping's paths, before it is parsed.

Paths through a selected entry, an extension or an Any are not counted here; limits are checked after decoding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from meshfold.compat.mapped.paths import Path, Step, capture_integers
from meshfold.compat.mapped.values import Metadata, Value
from meshfold.compat.wire import _WIRE as WIRE
from meshfold.compat.wire_values import is_map
from meshfold.kernels.wire.table import NONE, VARINT, Rule, Scan, Table, Verdict
from meshfold.model.errors import InvalidQuery
from meshfold.model.limits import Limits, check_bytes, check_count, check_results
from meshfold.model.types import RequestSize

# Largest field number for which a message has a table, which has one rule per number.
_MOST_NUMBER = 4096
_LIMITS = {
    "history": "max_history",
    "excluded": "max_excluded",
    "features": "max_features",
    "feature_values": "max_feature_values",
    "filter_values": "max_filter_values",
    "weights": "max_weights",
}
_SIZES = ("history", "excluded", "features", "feature_values", "filter_values")


class WireCounts:
    """A table of the paths of a message to count, and of those whose last value is kept."""

    def __init__(self, counted: Sequence[Path], captured: Sequence[Path]) -> None:
        self._types: list[dict[int, Rule]] = [{}]
        self._places: dict[tuple[int, ...], int] = {(): 0}
        self._counters: dict[tuple[int, ...], int] = {}
        for path in counted:
            self._counters.setdefault(_numbers(path), len(self._counters))
        self._captures = {_numbers(path): place for place, path in enumerate(captured)}
        for path in (*counted, *captured):
            self._enter(path.steps)
        self.table = Table(
            types=tuple(
                tuple(rules.get(number) for number in range(max(rules, default=0) + 1))
                for rules in self._types
            ),
            level=NONE,
            counters=((NONE, NONE),) * len(self._counters),
            captures=len(captured),
        )

    def counter(self, path: Path) -> int:
        return self._counters[_numbers(path)]

    def _enter(self, steps: Sequence[Step]) -> None:
        numbers: tuple[int, ...] = ()
        for place, step in enumerate(steps):
            here, numbers = self._places[numbers], (*numbers, step.field.number)
            child = NONE
            if place + 1 < len(steps):
                if numbers not in self._places:
                    self._places[numbers] = len(self._types)
                    self._types.append({})
                child = self._places[numbers]
            before = self._types[here].get(step.field.number)
            self._types[here][step.field.number] = Rule(
                WIRE.get(step.field.type, VARINT),
                child if before is None or child != NONE else before.child,
                self._counters.get(numbers, NONE),
                self._captures.get(numbers, NONE),
            )


def _numbers(path: Path) -> tuple[int, ...]:
    return tuple(step.field.number for step in path.steps)


def is_countable(path: Path) -> bool:
    """Whether the number of a path's values can be counted on the wire."""
    return all(
        (step.index is None or step.is_part)
        and step.key is None
        and step.where is None
        and step.any_type is None
        and not step.field.is_extension
        and step.field.number <= _MOST_NUMBER
        and step.field.type != FieldDescriptor.TYPE_GROUP
        for step in path.steps
    ) and not any(is_map(step.field) for step in path.steps[:-1])


def is_capturable(path: Path) -> bool:
    """Whether the last value on the wire is the path's value: not in a oneof, which another field may have cleared, and
    without a default or an enum whose unknown values are dropped."""
    leaf = path.leaf
    is_varint = capture_integers(leaf) or (
        leaf.type == FieldDescriptor.TYPE_ENUM and not leaf.enum_type.is_closed
    )
    return (
        path.is_plain
        and is_countable(path)
        and not leaf.has_default_value
        and (is_varint or leaf.type == FieldDescriptor.TYPE_STRING)
    )


class Sizes:
    """Measures requests of one method."""

    def __init__(
        self,
        kind: Any,
        message: Descriptor,
        values: Mapping[str, Value],
        counted: Mapping[str, Sequence[Path]],
        is_paged: bool,
        parse: Callable[[bytes], Any],
        page: Callable[[Any, Metadata, int], int],
    ) -> None:
        """values: single values of the query, including surface and max_results. counted: paths by names of sizes;
        those of several features are numbered, such as feature_values:0."""
        self._name = message.full_name
        self._values = {name: values[name] for name in ("surface", "max_results") if name in values}
        self._parse, self._page, self._is_paged = parse, page, is_paged
        self._scans = not is_paged and all(_is_scanned(value) for value in self._values.values())
        captured = {
            name: value.path for name, value in self._values.items() if self._scans and value.path is not None
        }
        countable = {name: [path for path in paths if is_countable(path)] for name, paths in counted.items()}
        self._captures = {name: place for place, name in enumerate(captured)}
        every = [path for paths in countable.values() for path in paths]
        self._wire = WireCounts(every, list(captured.values()))
        self._counts = [
            (name.partition(":")[0], paths[0].text, [self._wire.counter(path) for path in paths])
            for name, paths in countable.items()
            if paths
        ]
        self._texts = {
            name: place
            for name, place in self._captures.items()
            if captured[name].leaf.type == FieldDescriptor.TYPE_STRING
        }

    def measure(self, message: bytes, metadata: Metadata, limits: Limits) -> RequestSize:
        """The size of a request. Raises InvalidQuery where the bytes cannot be parsed or exceed a limit."""
        # Imported here, since it imports torch, which command lines do not need.
        from meshfold.kernels.wire.scan import scan

        scanned = scan(self._wire.table, message, limits.max_message_fields)
        if scanned.verdict != Verdict.MESSAGE:
            raise self._refusal(scanned.verdict, limits)
        sizes = dict.fromkeys(_SIZES, 0)
        for name, path, counters in self._counts:
            total = sum(scanned.total(counter) for counter in counters)
            check_count(path, total, getattr(limits, _LIMITS[name]))
            if name in sizes:
                sizes[name] += total
        parsed = None if self._scans else self._parse(message)
        got = {
            name: self._captured(name, value, scanned, message, metadata, limits)
            if self._scans
            else value.read(parsed, metadata)
            for name, value in self._values.items()
        }
        surface, results = got.get("surface") or "", got.get("max_results") or 0
        check_bytes(self._named("surface"), len(surface.encode()), limits)
        check_results(self._named("max_results"), results, limits)
        if self._is_paged:
            results = self._page(parsed, metadata, results)
            check_results(f"{self._named('max_results')} and the offset", results, limits)
        return RequestSize(surface=surface, max_results=results, bytes=len(message), **sizes)

    def _named(self, name: str) -> str:
        return self._values[name].name if name in self._values else name

    def _captured(
        self, name: str, value: Value, scanned: Scan, message: bytes, metadata: Metadata, limits: Limits
    ) -> Any:
        if value.path is None:
            return value.read(None, metadata)
        place = self._captures[name]
        if name in self._texts:
            start, end = scanned.span(place)
            check_bytes(value.name, end - start, limits)
            try:
                raw: Any = message[start:end].decode()
            except UnicodeDecodeError:
                raise self._refusal(Verdict.MALFORMED, limits) from None
        else:
            raw = as_parsed(scanned.number(place), value.path.leaf)
        if not raw and not value.path.leaf.has_presence:
            return value.default
        return raw if value.convert is None else value.convert(raw)

    def _refusal(self, verdict: Verdict, limits: Limits) -> InvalidQuery:
        match verdict:
            case Verdict.TOO_MANY_FIELDS:
                return InvalidQuery(
                    "request", f"has more than {limits.max_message_fields} fields; send fewer"
                )
            case Verdict.TOO_NESTED:
                return InvalidQuery("request", "has messages more than 100 deep in one another; flatten it")
        return InvalidQuery("request", f"the bytes are not a {self._name}")


def _is_scanned(value: Value) -> bool:
    """Whether the value can be read from the wire or is a constant."""
    if value.path is None:
        return not value.needs_message
    # A scan cannot show whether an optional field was sent.
    return is_capturable(value.path) and not value.path.leaf.has_presence


_UNSIGNED_32 = FieldDescriptor.TYPE_UINT32


def as_parsed(number: int, leaf: FieldDescriptor) -> int:
    """The value that a parser reads from a captured varint: its low bits."""
    if leaf.type == _UNSIGNED_32:
        return number & 0xFFFFFFFF
    if leaf.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_ENUM):
        return ((number & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000
    if leaf.type == FieldDescriptor.TYPE_UINT64:
        return number & 0xFFFFFFFFFFFFFFFF
    return number
