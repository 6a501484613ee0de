"""How much a request asks for, counted on the wire, and refused beyond the limits before anything is parsed.

Counted is what was sent. What a parser would drop, such as a key of a map that comes twice, counts as well: it would
have to be parsed first. Errors have the words of model/limits.py, and the paths of the protocol's fields.
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
# Lists by their counters: the name in a Query, the limit. In the order in which model/limits.py checks them.
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
# Counted to be refused, and no part of a size.
_PRICELESS = ("weights", "fields")
# Looked at where a request has them; the surface comes first.
_STRINGS = ("surface", "request_id", "value_formula")


def filter_counters(field: str) -> dict[str, Counter]:
    """Of the filter in a field, and of all filters in it."""
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
        """counters: by names of RequestSize, besides `weights` and `fields`; those of ids count integers, then strings.
        paths: of the protocol. results: the field that tells how many are asked for. feature_name: the name of a
        feature, a field of the message that is the scope of `feature_values`. Raises ValueError for a name that is not
        the message's."""
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
        """Raises InvalidQuery where the bytes are no message, or where they ask for too much."""
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
        """Of the list whose count that is."""
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
        # Without a scope a count has no end: it is of the whole message.
        scope = message[count.start : count.end or len(message)]
        scan = self._strings_of[name].scan(scope, limits.max_message_fields)
        return 2 * scan.total(0) > count.largest

    def _text(self, message: bytes, start: int, end: int) -> str:
        try:
            return message[start:end].decode()
        except UnicodeDecodeError:
            raise InvalidQuery("request", f"the bytes are not a {self._name}") from None


def _int32(number: int) -> int:
    """As a parser reads it: the low bits."""
    return ((number & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000
