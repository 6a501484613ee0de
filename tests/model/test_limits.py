from __future__ import annotations

from dataclasses import replace
from typing import Any as Anything

import numpy as np
import pytest

from meshfold.model.errors import InvalidConfig, InvalidQuery
from meshfold.model.filter.expression import All, Any, AtLeast, Exists, Expression, Match, Not, Range
from meshfold.model.limits import Limits, check
from meshfold.model.types import AnyQuery, EmbedQuery, MaxPerValue, Query, ScoreQuery, SearchQuery, User

LIMITS = Limits(
    max_results=100,
    max_history=3,
    max_excluded=3,
    max_features=2,
    max_feature_values=3,
    max_filter_depth=3,
    max_filter_nodes=5,
    max_filter_values=4,
    max_fields=2,
    max_users=2,
    max_query_vectors=2,
    max_item_ids=3,
    max_weights=2,
    max_string_bytes=8,
)
YEAR = Exists("year")
NAN = float("nan")


def nested(depth: int) -> Expression:
    expression: Expression = YEAR
    for _ in range(depth - 1):
        expression = Not(expression)
    return expression


ALLOWED: dict[str, dict[str, Anything]] = {
    "the most of everything": {
        "max_results": 100,
        "history": np.arange(3),
        "excluded_ids": np.arange(3),
        "features": {"a": np.array([1, 2, 3], np.float32), "b": ("12345678",)},
        "fields": ("a", "b"),
        "task_weights": {"a": -1.0, "b": 0.0},
        "filter": All((Match("a", ("x", "y"), (1, 2)), Not(YEAR), Range("a", float("-inf"), None))),
        "max_per_value": MaxPerValue("a", 1),
    },
    "characters of four bytes": {"surface": "\U0001f600" * 2},
    "an empty list of filters": {"filter": Any()},
    "a count above the filters": {"filter": AtLeast(9, (YEAR,))},
    "a range without bounds": {"filter": Range("year")},
    "the deepest": {"filter": nested(3)},
}

REFUSED: dict[str, tuple[dict[str, Anything], str]] = {
    "no results": ({"max_results": 0}, "max_results"),
    "fewer than none": ({"max_results": -1}, "max_results"),
    "too many results": ({"max_results": 101}, "max_results"),
    "long history": ({"history": np.arange(4)}, "history"),
    "many excluded": ({"excluded_ids": np.arange(4)}, "excluded_ids"),
    "many features": ({"features": {name: (name,) for name in "abc"}}, "features"),
    "long feature": ({"features": {"a": np.arange(4)}}, 'features["a"]'),
    "NaN in a feature": ({"features": {"a": np.array([0, NAN], np.float32)}}, 'features["a"][1]'),
    "infinity in a feature": ({"features": {"a": np.array([np.inf], np.float32)}}, 'features["a"][0]'),
    "long string in a feature": ({"features": {"a": ("", "123456789")}}, 'features["a"][1]'),
    "long feature name": ({"features": {"123456789": ("a",)}}, "features"),
    "NaN weight": ({"task_weights": {"like": NAN}}, 'task_weights["like"]'),
    "infinite weight": ({"task_weights": {"like": float("-inf")}}, 'task_weights["like"]'),
    "many weights": ({"task_weights": dict.fromkeys("abc", 1.0)}, "task_weights"),
    "long task": ({"task_weights": {"123456789": 1.0}}, "task_weights"),
    "many fields": ({"fields": ("a", "b", "c")}, "fields"),
    "long field": ({"fields": ("a", "123456789")}, "fields[1]"),
    "long surface": ({"surface": "123456789"}, "surface"),
    "bytes count, not characters": ({"surface": "\U0001f600" * 3}, "surface"),
    "long request id": ({"request_id": "123456789"}, "request_id"),
    "long formula": ({"value_formula": "123456789"}, "value_formula"),
    "no result per value": ({"max_per_value": MaxPerValue("a", 0)}, "max_per_value.limit"),
    "long field of a cap": ({"max_per_value": MaxPerValue("123456789", 1)}, "max_per_value.field"),
    "deep": ({"filter": nested(4)}, "filter"),
    "many parts": ({"filter": All((YEAR,) * 5)}, "filter"),
    "many parts in parts": ({"filter": All((All((YEAR, YEAR)), YEAR, YEAR))}, "filter"),
    "many values": ({"filter": All((Match("a", ints=(1, 2)), Match("b", ("x",) * 3)))}, "filter"),
    "no value": ({"filter": All((YEAR, Match("a")))}, "filter.all.filters[1].match"),
    "long value": ({"filter": Not(Match("a", ("x", "123456789")))}, "filter.not.match.strings[1]"),
    "long field of a match": ({"filter": Match("123456789", ("x",))}, "filter.match.field"),
    "long field of a range": ({"filter": Range("123456789", 1.0)}, "filter.range.field"),
    "long field that exists": ({"filter": Exists("123456789")}, "filter.exists.field"),
    "NaN from": ({"filter": Any((Range("a", NAN),))}, "filter.any.filters[0].range.min"),
    "NaN to": ({"filter": Range("a", None, NAN)}, "filter.range.max"),
    "negative count": ({"filter": AtLeast(-1)}, "filter.at_least.count"),
    "in a list of at least": (
        {"filter": AtLeast(1, (YEAR, Match("a")))},
        "filter.at_least.filters[1].match",
    ),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_what_is_within_the_limits_passes(case: str) -> None:
    check(replace(Query("movies", 10), **ALLOWED[case]), LIMITS)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_is_refused_with_its_path(case: str) -> None:
    changes, path = REFUSED[case]
    with pytest.raises(InvalidQuery) as caught:
        check(replace(Query("movies", 10), **changes), LIMITS)
    assert caught.value.path == path


SMALL = User(history=np.arange(3), features={"a": ("b",)})
VECTOR = np.zeros(2, np.float32)

OTHERS: dict[str, tuple[AnyQuery, str | None]] = {
    "users": (EmbedQuery("movies", (SMALL, SMALL)), None),
    "no users": (EmbedQuery("movies", ()), None),
    "many users": (EmbedQuery("movies", (SMALL,) * 3), "users"),
    "long history": (EmbedQuery("movies", (SMALL, User(history=np.arange(4)))), "users[1].history"),
    "long feature": (
        EmbedQuery("movies", (User(features={"a": ("123456789",)}),)),
        'users[0].features["a"][0]',
    ),
    "long surface": (EmbedQuery("123456789", ()), "surface"),
    "a search": (SearchQuery("movies", 100, (VECTOR, VECTOR), YEAR, np.arange(3)), None),
    "nothing to search": (SearchQuery("movies", 1, ()), None),
    "no neighbours": (SearchQuery("movies", 0, (VECTOR,)), "k"),
    "many neighbours": (SearchQuery("movies", 101, (VECTOR,)), "k"),
    "many vectors": (SearchQuery("movies", 1, (VECTOR,) * 3), "queries"),
    "NaN in a vector": (SearchQuery("movies", 1, (VECTOR, np.array([0, NAN], np.float32))), "queries[1][1]"),
    "many excluded": (SearchQuery("movies", 1, (VECTOR,), None, np.arange(4)), "excluded_ids"),
    "deep": (SearchQuery("movies", 1, (VECTOR,), nested(4)), "filter"),
    "items": (ScoreQuery("movies", SMALL, np.arange(3), {"a": 1.0}), None),
    "no items": (ScoreQuery("movies", SMALL, np.arange(0)), None),
    "many items": (ScoreQuery("movies", SMALL, np.arange(4)), "item_ids"),
    "a user to score for": (ScoreQuery("movies", User(history=np.arange(4)), np.arange(3)), "history"),
    "NaN weight": (ScoreQuery("movies", SMALL, np.arange(3), {"a": NAN}), 'task_weights["a"]'),
    "long formula": (ScoreQuery("movies", SMALL, np.arange(3), {}, "123456789"), "value_formula"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_calls_have_the_same_limits(case: str) -> None:
    query, path = OTHERS[case]
    if path is None:
        check(query, LIMITS)
        return
    with pytest.raises(InvalidQuery) as caught:
        check(query, LIMITS)
    assert caught.value.path == path


def test_a_tree_of_any_depth_is_walked_without_recursion() -> None:
    with pytest.raises(InvalidQuery, match="deep"):
        check(Query("movies", 10, filter=nested(100_000)), Limits(max_filter_nodes=10**6))
    check(Query("movies", 10, filter=nested(100_000)), Limits(max_filter_nodes=10**6, max_filter_depth=10**6))


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="limits.max_fields must be at least 1, got 0"):
        Limits(max_fields=0)
