"""Limits of a request, and their checks.

Paths in errors are those of a Query and of the filter messages: `features["age"][3]`,
`filter.all.filters[1].match.strings[0]`. A protocol turns them into the fields of its request
(compat/request_paths.py).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Sized
from dataclasses import dataclass, fields
from typing import Annotated

import numpy as np
import numpy.typing as npt

from meshfold.model.errors import InvalidConfig, InvalidQuery
from meshfold.model.filter.expression import All, Any, AtLeast, Exists, Expression, Match, Not, Range
from meshfold.model.schema import MAX_ID_BYTES
from meshfold.model.types import AnyQuery, EmbedQuery, FeatureList, Ids, Query, ScoreQuery, SearchQuery, User


@dataclass(frozen=True)
class Limits:
    max_results: Annotated[int, "results of a request"] = 10_000
    max_history: Annotated[int, "item ids of a history"] = 10_000
    max_excluded: Annotated[int, "excluded item ids"] = 10_000
    max_features: Annotated[int, "features of a request"] = 64
    max_feature_values: Annotated[int, "values of a feature"] = 16_384
    max_filter_depth: Annotated[int, "filters within one another"] = 16
    max_filter_nodes: Annotated[int, "parts of a filter"] = 512
    max_filter_values: Annotated[int, "values of all matches of a filter"] = 10_000
    max_fields: Annotated[int, "fields to return"] = 64
    max_users: Annotated[int, "users to embed"] = 64
    max_query_vectors: Annotated[int, "query vectors of a search"] = 32
    max_item_ids: Annotated[int, "item ids to score"] = 10_000
    max_weights: Annotated[int, "task weights"] = 64
    max_message_fields: Annotated[int, "fields of a request's message, strings of lists one by one"] = 131_072
    max_string_bytes: Annotated[int, "bytes of a string anywhere in a request, in UTF-8"] = 1024

    def __post_init__(self) -> None:
        for f in fields(self):
            if getattr(self, f.name) < 1:
                raise InvalidConfig(f"limits.{f.name} must be at least 1, got {getattr(self, f.name)}")


# Limits of queries from Python; check() still refuses invalid values.
NO_LIMITS = Limits(**dict.fromkeys((f.name for f in fields(Limits)), sys.maxsize))


def check(query: AnyQuery, limits: Limits) -> None:
    """Raises InvalidQuery for the first part of the query that is out of bounds or not finite."""
    _check_string("surface", query.surface, limits)
    match query:
        case Query():
            _check_query(query, limits)
        case EmbedQuery():
            _check_length("users", query.users, limits.max_users)
            for place, user in enumerate(query.users):
                _check_user(user, limits, f"users[{place}].")
        case SearchQuery():
            _check_search(query, limits)
        case ScoreQuery():
            _check_user(query.user, limits)
            _check_ids("item_ids", query.item_ids, limits.max_item_ids, limits)
            _check_formula(query, limits)


def _check_query(query: Query, limits: Limits) -> None:
    check_results("max_results", query.max_results, limits)
    _check_user(query.user, limits)
    _check_ids("excluded_ids", query.excluded_ids, limits.max_excluded, limits)
    _check_string("request_id", query.request_id, limits)
    _check_formula(query, limits)
    _check_length("fields", query.fields, limits.max_fields)
    _check_strings("fields", query.fields, limits)
    if query.max_per_value is not None:
        _check_string("max_per_value.field", query.max_per_value.field, limits)
        if query.max_per_value.limit < 1:
            raise InvalidQuery("max_per_value.limit", f"must be at least 1, got {query.max_per_value.limit}")
    if query.filter is not None:
        _check_filter(query.filter, limits)


def _check_search(query: SearchQuery, limits: Limits) -> None:
    check_results("k", query.k, limits)
    _check_length("queries", query.queries, limits.max_query_vectors)
    for place, vector in enumerate(query.queries):
        _check_floats(f"queries[{place}]", vector)
    _check_ids("excluded_ids", query.excluded_ids, limits.max_excluded, limits)
    if query.filter is not None:
        _check_filter(query.filter, limits)


def check_results(path: str, max_results: int, limits: Limits) -> None:
    """Raises InvalidQuery where the requested number of results is out of bounds."""
    if type(max_results) is bool or not isinstance(max_results, int | np.integer):
        raise InvalidQuery(path, f"must be a whole number, got {max_results!r}")
    if not 1 <= max_results <= limits.max_results:
        allowed = "at least 1" if limits is NO_LIMITS else f"1 to {limits.max_results}"
        raise InvalidQuery(path, f"must be {allowed}, got {max_results}")


def _check_formula(query: Query | ScoreQuery, limits: Limits) -> None:
    _check_string("value_formula", query.value_formula, limits)
    _check_length("task_weights", query.task_weights, limits.max_weights)
    for task, weight in query.task_weights.items():
        _check_string("task_weights", task, limits, "holds a name that ")
        if not math.isfinite(weight):
            raise InvalidQuery(f'task_weights["{task}"]', f"must be a finite number, got {weight}")


def _check_user(user: User, limits: Limits, whole: str = "") -> None:
    if isinstance(user.user_id, str):
        check_bytes(f"{whole}user_id", len(user.user_id.encode()), limits, MAX_ID_BYTES)
    _check_ids(f"{whole}history", user.history, limits.max_history, limits)
    _check_length(f"{whole}features", user.features, limits.max_features)
    for name, values in user.features.items():
        _check_feature(name, values, limits, whole)


def _check_feature(name: str, values: FeatureList, limits: Limits, whole: str) -> None:
    _check_string(f"{whole}features", name, limits, "holds a name that ")
    path = f'{whole}features["{name}"]'
    _check_length(path, values, limits.max_feature_values)
    if isinstance(values, tuple):
        _check_strings(path, values, limits)
    elif values.dtype == np.float32:
        _check_floats(path, values)


def _check_floats(path: str, values: npt.NDArray[np.generic]) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        place = int(finite.argmin())
        raise InvalidQuery(f"{path}[{place}]", f"must be a finite number, got {values[place]}")


def _check_filter(root: Expression, limits: Limits) -> None:
    """Checks a filter with an explicit stack, because filters built in Python may be nested to any depth."""
    nodes = values = 0
    stack: list[tuple[Expression, str, int]] = [(root, "filter", 1)]
    while stack:
        node, path, depth = stack.pop()
        nodes += 1
        if isinstance(node, Match):
            values += len(node.strings) + len(node.ints)
        check_filter_size(nodes, depth, values, limits)
        match node:
            case Match():
                _check_match(node, f"{path}.match", limits)
            case Range():
                _check_string(f"{path}.range.field", node.field, limits)
                for name, bound in (("min", node.minimum), ("max", node.maximum)):
                    if bound is not None and math.isnan(bound):
                        raise InvalidQuery(f"{path}.range.{name}", "must be a number, got NaN")
            case Exists():
                _check_string(f"{path}.exists.field", node.field, limits)
            case Not():
                stack.append((node.filter, f"{path}.not", depth + 1))
            case All() | Any() | AtLeast():
                kind = {All: "all", Any: "any", AtLeast: "at_least"}[type(node)]
                if isinstance(node, AtLeast) and node.count < 0:
                    raise InvalidQuery(f"{path}.at_least.count", f"must be at least 0, got {node.count}")
                check_filter_size(nodes + len(stack) + len(node.filters), depth, values, limits)
                inner = [(f, f"{path}.{kind}.filters[{i}]", depth + 1) for i, f in enumerate(node.filters)]
                stack.extend(reversed(inner))


def _check_match(node: Match, path: str, limits: Limits) -> None:
    _check_string(f"{path}.field", node.field, limits)
    _check_strings(f"{path}.strings", node.strings, limits)
    if not node.strings and not node.ints:
        raise InvalidQuery(path, "a match without values; give strings or ints, or leave it out")


def _check_ids(path: str, ids: Ids, most: int, limits: Limits) -> None:
    """Checks the number of ids; strings must have 1 to MAX_ID_BYTES bytes each."""
    _check_length(path, ids, most)
    if isinstance(ids, tuple):
        if "" in ids:
            raise InvalidQuery(f"{path}[{ids.index('')}]", "is an empty string; leave it out or give an id")
        _check_strings(path, ids, limits, MAX_ID_BYTES)


def _check_length(path: str, values: Sized, most: int) -> None:
    check_count(path, len(values), most)


def check_count(path: str, count: int, most: int) -> None:
    """Raises InvalidQuery where the list at `path` has too many entries."""
    if count > most:
        raise InvalidQuery(path, f"has {count} entries; at most {most} are allowed")


def check_filter_size(nodes: int, depth: int, values: int, limits: Limits) -> None:
    """Raises InvalidQuery where a filter has too many parts, is nested too deep, or matches too many values."""
    if nodes > limits.max_filter_nodes:
        raise InvalidQuery("filter", f"has more than {limits.max_filter_nodes} parts; use fewer")
    if depth > limits.max_filter_depth:
        raise InvalidQuery("filter", f"is more than {limits.max_filter_depth} deep; flatten it")
    if values > limits.max_filter_values:
        raise InvalidQuery("filter", f"matches more than {limits.max_filter_values} values; use fewer")


def _check_strings(path: str, values: Collection[str], limits: Limits, most: int | None = None) -> None:
    """Checks strings. most: limit of bytes of a string where it is below max_string_bytes."""
    most = _most_bytes(limits, most)
    # A character takes at most 4 bytes in UTF-8, so that short strings need no further check.
    if max(map(len, values), default=0) * 4 <= most:
        return
    for place, value in enumerate(values):
        if _too_long(value, most):
            check_bytes(f"{path}[{place}]", len(value.encode()), limits, most)


def _check_string(path: str, value: str, limits: Limits, what: str = "") -> None:
    """Checks a string. what: see check_bytes."""
    if _too_long(value, limits.max_string_bytes):
        check_bytes(path, len(value.encode()), limits, what=what)


def check_bytes(path: str, size: int, limits: Limits, most: int | None = None, what: str = "") -> None:
    """Raises InvalidQuery where a string has too many bytes.

    most: a limit below max_string_bytes, or None. what: start of the message for a string inside the value at `path`.
    """
    most = _most_bytes(limits, most)
    if size > most:
        raise InvalidQuery(path, f"{what}has {size} bytes; at most {most} are allowed")


def _most_bytes(limits: Limits, most: int | None) -> int:
    return limits.max_string_bytes if most is None else min(most, limits.max_string_bytes)


def _too_long(value: str, most: int) -> bool:
    """Whether a string has too many bytes; encodes it only where its number of characters does not decide."""
    return len(value) > most or (len(value) * 4 > most and len(value.encode()) > most)
