"""How much a request asks for, counted on the wire, and refused beyond the limits before anything is parsed.

Counted is what was sent. What a parser would drop, such as a key of a map that comes twice, counts as well: it would
have to be parsed first. Errors have the paths and words of model/limits.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.descriptor import Descriptor

from meshfold.compat.wire import Counter, Scanner
from meshfold.kernels.wire_table import Count, Scan, Verdict
from meshfold.model.errors import InvalidQuery
from meshfold.model.limits import Limits, check_count, check_filter_size, check_results
from meshfold.model.types import RequestSize

# In every request together; a valid one has a field for each of its values at most, and few others.
MOST_FIELDS = 1 << 18

# Lists that are limited as they are: the counter, its path and its limit. In the order in which model/limits.py checks.
_LISTS = (
    ("queries", "queries", "max_query_vectors"),
    ("excluded", "excluded_ids", "max_excluded"),
    ("item_ids", "item_ids", "max_item_ids"),
    ("weights", "task_weights", "max_weights"),
    ("fields", "fields", "max_fields"),
)
_NOTHING = Count(0, 0, 0, 0, 0)


def filter_counters(field: str) -> dict[str, Counter]:
    """Of the filter in a field, and of all filters in it."""
    nodes = (field, "Filter.not", "All.filters", "Any.filters", "AtLeast.filters")
    return {"filter_nodes": Counter(nodes), "filter_values": Counter(("Match.strings", "Match.ints"))}


class SizeScanner:
    """Measures requests of one call.

    Its counters are named as the parts of RequestSize, besides: `queries`, `weights`, `fields`.
    """

    def __init__(
        self, message: Descriptor, counters: Mapping[str, Counter], results: str = "", feature_name: str = ""
    ) -> None:
        """results: the field that tells how many are asked for. feature_name: the field with the name of a feature, in
        the message that is the scope of `feature_values`. Raises ValueError for a name that is not the message's."""
        self._name = message.full_name
        self._surface, self._results = f"{message.name}.surface", results and f"{message.name}.{results}"
        self._results_path = results
        self._counters = {name: place for place, name in enumerate(counters)}
        level = "Filter" if "filter_nodes" in counters else ""
        captures = (self._surface, self._results) if results else (self._surface,)
        self._scanner = Scanner(message, counters, captures, level)
        if feature_name:
            entry = self._scanner.holds(feature_name.partition(".")[0])
            self._feature = Scanner(entry, captures=(feature_name,))

    def measure(self, message: bytes, limits: Limits) -> RequestSize:
        """Raises InvalidQuery where the bytes are no message, or too much is asked for."""
        scan = self._scanner.scan(message, MOST_FIELDS)
        self._refuse(scan.verdict)
        counts = {name: scan.count(place) for name, place in self._counters.items()}
        results = self._result_count(scan)
        surface = self._text(message, scan.span(0))
        if self._results_path:
            check_results(self._results_path, results, limits)
        self._refuse_oversized(message, counts, scan.levels, limits)

        def total(name: str) -> int:
            return counts.get(name, _NOTHING).total

        return RequestSize(
            surface=surface,
            max_results=results,
            filter_nodes=total("filter_nodes"),
            filter_values=total("filter_values"),
            history=total("history"),
            excluded=total("excluded"),
            features=total("features"),
            feature_values=total("feature_values"),
            item_ids=total("item_ids"),
            users=total("users"),
            query_vectors=total("queries"),
            bytes=len(message),
        )

    def _refuse(self, verdict: Verdict) -> None:
        match verdict:
            case Verdict.MALFORMED:
                raise InvalidQuery("request", f"the bytes are not a {self._name}")
            case Verdict.TOO_MANY_FIELDS:
                raise InvalidQuery("request", f"has more than {MOST_FIELDS} fields; send fewer")
            case Verdict.TOO_NESTED:
                raise InvalidQuery("request", "has messages more than 100 deep in one another; flatten it")

    def _refuse_oversized(
        self, message: bytes, counts: Mapping[str, Count], levels: int, limits: Limits
    ) -> None:
        def largest(name: str) -> Count:
            return counts.get(name, _NOTHING)

        check_count("users", largest("users").total, limits.max_users)
        for name, most in (("history", limits.max_history), ("features", limits.max_features)):
            check_count(self._user(largest(name)) + name, largest(name).largest, most)
        values = largest("feature_values")
        if values.largest > limits.max_feature_values:
            name = self._feature_name(message[values.start : values.end])
            check_count(f'{self._user(values)}features["{name}"]', values.largest, limits.max_feature_values)
        for name, path, limit in _LISTS:
            check_count(path, largest(name).largest, getattr(limits, limit))
        nodes, filter_values = largest("filter_nodes").total, largest("filter_values").total
        check_filter_size(nodes, levels, filter_values, limits)

    def _user(self, count: Count) -> str:
        """What stands before the path of a part of a user."""
        return f"users[{count.place}]." if "users" in self._counters else ""

    def _feature_name(self, feature: bytes) -> str:
        return self._text(feature, self._feature.scan(feature, MOST_FIELDS).span(0))

    def _result_count(self, scan: Scan) -> int:
        """An int32: the low bits of what was sent."""
        if not self._results_path:
            return 0
        return ((scan.number(1) & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000

    def _text(self, message: bytes, span: tuple[int, int]) -> str:
        try:
            return message[slice(*span)].decode()
        except UnicodeDecodeError:
            raise InvalidQuery("request", f"the bytes are not a {self._name}") from None
