"""Measures requests on the wire, and refuses those beyond the limits before they are parsed.

All sent values count, even those that a parser would drop, such as a repeated key of a map. Errors have the words of
model/limits.py and the paths of the protocol's fields.
"""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.descriptor import Descriptor

from meshfold.compat.request_paths import SIBLINGS, RequestPaths
from meshfold.compat.wire import Counter, Scanner
from meshfold.kernels.wire.table import Count, Verdict
from meshfold.model.errors import InvalidQuery
from meshfold.model.limits import Limits, check_bytes, check_count, check_filter_size, check_results
from meshfold.model.types import RequestSize

NODES, VALUES = "filter_nodes", "filter_values"
_FEATURE = "feature_values"
# (name in a Query, limit) of each counted list, in the order of the checks in model/limits.py.
_LISTS = {
    "users": ("users", "max_users"),
    "history": ("history", "max_history"),
    "features": ("features", "max_features"),
    _FEATURE: ("features", "max_feature_values"),
    "query_vectors": ("queries", "max_query_vectors"),
    "excluded": ("excluded_ids", "max_excluded"),
    "item_ids": ("item_ids", "max_item_ids"),
    "weights": ("task_weights", "max_weights"),
    "fields": ("fields", "max_fields"),
}
# Counters that are checked but no part of a RequestSize.
_PRICELESS = ("weights", "fields")
# Captured strings; the surface comes first.
_STRINGS = ("surface", "request_id", "value_formula")


def filter_counters(field: str) -> dict[str, Counter]:
    """The counters of the filter in a field, nested filters included."""
    nodes = (field, "Filter.not", "All.filters", "Any.filters", "AtLeast.filters")
    return {NODES: Counter(nodes), VALUES: Counter(("Match.strings", "Match.ints"))}


class SizeScanner:
    """Measures requests of one call."""

    def __init__(
        self,
        message: Descriptor,
        counters: Mapping[str, Counter],
        paths: RequestPaths,
        results: str | None = None,
        feature_name: str | None = None,
    ) -> None:
        """counters: by names of RequestSize, and `weights` and `fields`; those of ids count integers, then strings.
        paths: the protocol's. results: field of the requested number of results. feature_name: field of a feature's
        name, in the message that is the scope of `feature_values`. Raises ValueError for an unknown field."""
        self._name = message.full_name
        self._paths = paths
        self._places = {name: place for place, name in enumerate(counters)}
        self._lists = tuple(
            (name, self._places[name], _LISTS[name][1]) for name in _LISTS if name in counters
        )
        self._sizes = tuple((name, place) for name, place in self._places.items() if name not in _PRICELESS)
        self._strings = tuple(name for name in _STRINGS if name in message.fields_by_name)
        self._results = results
        captures = (*self._strings, results) if results else self._strings
        self._scanner = Scanner(
            message,
            counters,
            [f"{message.name}.{name}" for name in captures],
            "Filter" if NODES in counters else "",
        )
        self._strings_of = {
            name: Scanner(self._scanner.holds(c.scope or message.name), {name: Counter(c.fields[1:])})
            for name, c in counters.items()
            if name in _LISTS and _LISTS[name][0] in SIBLINGS
        }
        if feature_name is not None:
            feature = self._scanner.holds(feature_name.partition(".")[0])
            self._feature = Scanner(feature, captures=(feature_name,))

    def measure(self, message: bytes, limits: Limits) -> RequestSize:
        """The size of a request. Raises InvalidQuery where the bytes cannot be parsed or exceed a limit."""
        scan = self._scanner.scan(message, limits.max_message_fields)
        if scan.verdict != Verdict.MESSAGE:
            raise self._refusal(scan.verdict, limits)
        for capture, name in enumerate(self._strings):
            start, end = scan.span(capture)
            check_bytes(name, end - start, limits)
        results = 0
        if self._results is not None:
            results = _int32(scan.number(len(self._strings)))
            check_results(self._results, results, limits)
        for name, place, limit in self._lists:
            if scan.largest(place) > getattr(limits, limit):
                path = self._path(name, scan.count(place), message, limits)
                check_count(path, scan.largest(place), getattr(limits, limit))
        if NODES in self._places:
            nodes, values = scan.largest(self._places[NODES]), scan.largest(self._places[VALUES])
            check_filter_size(nodes, scan.levels, values, limits)
        totals = {name: scan.total(place) for name, place in self._sizes}
        surface = self._text(message, *scan.span(0))
        return RequestSize(surface=surface, max_results=results, bytes=len(message), **totals)

    def _refusal(self, verdict: Verdict, limits: Limits) -> InvalidQuery:
        match verdict:
            case Verdict.TOO_MANY_FIELDS:
                return InvalidQuery(
                    "request", f"has more than {limits.max_message_fields} fields; send fewer"
                )
            case Verdict.TOO_NESTED:
                return InvalidQuery("request", "has messages more than 100 deep in one another; flatten it")
        return InvalidQuery("request", f"the bytes are not a {self._name}")

    def _path(self, name: str, count: Count, message: bytes, limits: Limits) -> str:
        """The path of a counted list."""
        path = _LISTS[name][0]
        if name == _FEATURE:
            feature = message[count.start : count.end]
            scan = self._feature.scan(feature, limits.max_message_fields)
            path += f'["{self._text(feature, *scan.span(0))}"]'
        of_user = name in ("history", "features", _FEATURE) and "users" in self._places
        path = f"users[{count.place}].{path}" if of_user else path
        return self._paths.named(path, self._are_strings(name, count, message, limits))

    def _are_strings(self, name: str, count: Count, message: bytes, limits: Limits) -> bool:
        """Whether most entries of the list are strings."""
        if name not in self._strings_of:
            return False
        # A count without a scope is of the whole message, and has no end.
        scope = message[count.start : count.end or len(message)]
        scan = self._strings_of[name].scan(scope, limits.max_message_fields)
        return 2 * scan.total(0) > count.largest

    def _text(self, message: bytes, start: int, end: int) -> str:
        try:
            return message[start:end].decode()
        except UnicodeDecodeError:
            raise InvalidQuery("request", f"the bytes are not a {self._name}") from None


def _int32(number: int) -> int:
    """The int32 that a parser reads from a varint: its low bits."""
    return ((number & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000
