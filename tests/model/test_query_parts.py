"""Parts of a query that are no lists: what is of another type is refused by its path, in one line."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.expression import All, AtLeast, Exists, Match, Not, Range
from meshfold.model.filter.expression import Any as AnyOf
from meshfold.model.query_lists import with_arrays
from meshfold.model.types import EmbedQuery, MaxPerValue, Query, ScoreQuery, SearchQuery, User

HALF = "a\ud800"
EXISTS = Exists("year")

# (parts of a Query, the path, what the error says)
QUERIES: list[tuple[dict[str, Any], str, str]] = [
    ({"surface": None}, "surface", "must be a string, got None"),
    ({"surface": HALF}, "surface", "half of a surrogate pair"),
    ({"request_id": 5}, "request_id", "must be a string, got 5"),
    ({"value_formula": ["x"]}, "value_formula", "must be a string, got ['x']"),
    ({"max_results": "10"}, "max_results", "must be a whole number, got '10'"),
    ({"max_results": 2.0}, "max_results", "must be a whole number, got 2.0"),
    ({"max_results": True}, "max_results", "got True"),
    ({"user_id": HALF}, "user_id", "half of a surrogate pair"),
    ({"user_id": None}, "user_id", "must be an integer or a string, got None"),
    ({"history": ["a", HALF]}, "history[1]", "half of a surrogate pair; give Unicode text, got 'a\\ud800'"),
    ({"history": ("a", "é", HALF)}, "history[2]", "half of a surrogate pair"),
    ({"excluded_ids": (HALF,)}, "excluded_ids[0]", "half of a surrogate pair"),
    ({"features": [1]}, "features", 'must be a dict by names such as {"hour": [8]}, got [1]'),
    ({"features": "hour"}, "features", "must be a dict by names"),
    ({"features": {8: [1]}}, "features[8]", "must be a string, got 8"),
    ({"features": {HALF: [1]}}, "features['a\\ud800']", "half of a surrogate pair"),
    ({"features": {"x": ("a", HALF)}}, 'features["x"][1]', "half of a surrogate pair"),
    ({"features": {"x": [HALF]}}, 'features["x"][0]', "half of a surrogate pair"),
    ({"features": {"x": None}}, 'features["x"]', "must be a list or an array, got None"),
    ({"task_weights": {"like": "a"}}, 'task_weights["like"]', "must be a number, got 'a'"),
    ({"task_weights": {"like": None}}, 'task_weights["like"]', "must be a number, got None"),
    ({"task_weights": {"like": True}}, 'task_weights["like"]', "must be a number, got True"),
    ({"task_weights": {"like": [0.5]}}, 'task_weights["like"]', "must be a number, got [0.5]"),
    ({"task_weights": {"like": Decimal("0.5")}}, 'task_weights["like"]', "must be a number"),
    ({"task_weights": {"like": 10**400}}, 'task_weights["like"]', "too large for a number"),
    ({"task_weights": [0.5]}, "task_weights", 'must be a dict by names such as {"like": 0.5}, got [0.5]'),
    ({"task_weights": {1: 0.5}}, "task_weights[1]", "must be a string, got 1"),
    (
        {"max_per_value": "year"},
        "max_per_value",
        "must be a field and a number such as (\"year\", 1), got 'year'",
    ),
    ({"max_per_value": ("year",)}, "max_per_value", "must be a field and a number"),
    ({"max_per_value": {"year": 1}}, "max_per_value", "must be a field and a number"),
    ({"max_per_value": ("year", 1, 2)}, "max_per_value", "must be a field and a number"),
    ({"max_per_value": 1}, "max_per_value", "must be a field and a number"),
    ({"max_per_value": (1, "year")}, "max_per_value.field", "must be a string, got 1"),
    ({"max_per_value": ("year", "1")}, "max_per_value.limit", "must be a whole number, got '1'"),
    ({"max_per_value": MaxPerValue("year", 1.5)}, "max_per_value.limit", "must be a whole number, got 1.5"),  # type: ignore[arg-type]
    ({"fields": "title"}, "fields", "must be a list of names, got 'title'; give ['title']"),
    ({"fields": 5}, "fields", "must be a list of names, got 5"),
    ({"fields": ["title", 5]}, "fields[1]", "must be a string, got 5"),
    ({"explain": "yes"}, "explain", "must be True or False, got 'yes'"),
    ({"filter": 5}, "filter", "must be an Expression (Match, Range, Exists, All, Any, AtLeast, Not), got 5"),
    ({"filter": {"year": 1990}}, "filter", "must be an Expression"),
    ({"filter": Match}, "filter", "must be an Expression"),
    ({"filter": "year > 3"}, "filter", "parse_filter(text) makes one"),
    ({"filter": All((EXISTS, 5))}, "filter.all.filters[1]", "must be an Expression"),  # type: ignore[arg-type]
    ({"filter": AnyOf(EXISTS)}, "filter.any.filters", "must be a tuple of Expressions"),  # type: ignore[arg-type]
    ({"filter": Not(Not(None))}, "filter.not.not", "must be an Expression"),  # type: ignore[arg-type]
    ({"filter": AtLeast("2", (EXISTS,))}, "filter.at_least.count", "must be a whole number"),  # type: ignore[arg-type]
    ({"filter": Exists(3)}, "filter.exists.field", "must be a string, got 3"),  # type: ignore[arg-type]
    ({"filter": Match("tag", "wool")}, "filter.match.strings", "must be a tuple, got 'wool'; give ('wool',)"),  # type: ignore[arg-type]
    ({"filter": Match("tag", ("a", 3))}, "filter.match.strings[1]", "must be a string, got 3"),  # type: ignore[arg-type]
    ({"filter": Match("tag", (HALF,))}, "filter.match.strings[0]", "half of a surrogate pair"),
    ({"filter": Match("tag", (), (1, 2.5))}, "filter.match.ints[1]", "must be a whole number, got 2.5"),  # type: ignore[arg-type]
    ({"filter": Match("tag", (), (1, 2**63))}, "filter.match.ints[1]", "does not fit into 64 bits"),
    ({"filter": Range("year", "1990")}, "filter.range.min", "must be a number, got '1990'"),  # type: ignore[arg-type]
    ({"filter": Range("year", None, 10**400)}, "filter.range.max", "too large for a number"),
]
OTHERS: list[tuple[Any, str]] = [
    (EmbedQuery(5, ()), "surface"),  # type: ignore[arg-type]
    (EmbedQuery("shop", None), "users"),  # type: ignore[arg-type]
    (EmbedQuery("shop", User()), "users"),  # type: ignore[arg-type]
    (EmbedQuery("shop", (User(), {"history": [1]})), "users[1]"),  # type: ignore[arg-type]
    (EmbedQuery("shop", (User(user_id=1.5),)), "users[0].user_id"),  # type: ignore[arg-type]
    (EmbedQuery("shop", (User(features=[1]),)), "users[0].features"),  # type: ignore[arg-type]
    (EmbedQuery("shop", (User(history=(HALF,)),)), "users[0].history[0]"),
    (EmbedQuery("shop", (User(features={"x": (HALF,)}),)), 'users[0].features["x"][0]'),
    (SearchQuery("shop", "5", ()), "k"),  # type: ignore[arg-type]
    (SearchQuery("shop", 5, None), "queries"),  # type: ignore[arg-type]
    (SearchQuery("shop", 5, {"v": [1.0]}), "queries"),  # type: ignore[arg-type]
    (SearchQuery("shop", 5, (), filter=5), "filter"),  # type: ignore[arg-type]
    (SearchQuery("shop", 5, (), filter="year > 3"), "filter"),  # type: ignore[arg-type]
    (SearchQuery("shop", 5, (), excluded_ids=(HALF,)), "excluded_ids[0]"),
    (ScoreQuery("shop", None, (1,)), "user"),  # type: ignore[arg-type]
    (ScoreQuery("shop", User(features=5), [1]), "features"),  # type: ignore[arg-type]
    (ScoreQuery("shop", User(), (HALF,)), "item_ids[0]"),
    (ScoreQuery("shop", User(), [1], {"like": "a"}), 'task_weights["like"]'),  # type: ignore[arg-type, dict-item]
    (ScoreQuery("shop", User(), [1], [1]), "task_weights"),  # type: ignore[arg-type]
    (ScoreQuery("shop", User(), [1], {}, 5), "value_formula"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("parts", "path", "said"), QUERIES)
def test_a_part_of_another_type_is_refused_by_its_path(parts: dict[str, Any], path: str, said: str) -> None:
    with pytest.raises(InvalidQuery) as caught:
        with_arrays(replace(Query("shop", 5), **parts))
    assert caught.value.path == path
    assert said in caught.value.message
    assert len(str(caught.value).splitlines()) == 1
    str(caught.value).encode()


@pytest.mark.parametrize(("query", "path"), OTHERS)
def test_other_queries_refuse_it_too(query: Any, path: str) -> None:
    with pytest.raises(InvalidQuery) as caught:
        with_arrays(query)
    assert caught.value.path == path


def test_what_came_is_shown_in_a_short_line() -> None:
    for given in (np.eye(9), {"x" * 500: 1}, "line\nend"):
        with pytest.raises(InvalidQuery) as caught:
            with_arrays(Query("shop", 5, max_per_value=given))  # type: ignore[arg-type]
        assert len(str(caught.value).splitlines()) == 1
        assert len(str(caught.value)) < 160


def test_none_is_not_given() -> None:
    none: Any = None
    query = with_arrays(Query("shop", 5, features=none, task_weights=none, fields=none))
    assert (query.features, query.task_weights, query.fields) == ({}, {}, ())
    assert with_arrays(ScoreQuery("shop", User(features=none), [1], none)).task_weights == {}  # type: ignore[arg-type]
    assert with_arrays(EmbedQuery("shop", (User(features=none),))).users[0].features == {}
    assert with_arrays(SearchQuery("shop", 5, (), None)).filter is None


def test_what_means_the_same_is_taken() -> None:
    ids: Any = (np.int64(4), 5)
    given: Any = {
        "max_results": np.int32(5),
        "task_weights": {"like": 1, "watch": np.float32(0.5)},
        "max_per_value": ["year", np.int64(2)],
        "fields": ["title", np.str_("year")],
        "explain": np.True_,
        "filter": All((Range("year", 1990, np.float64(1999.0)), Match("id", ints=ids))),
    }
    query = with_arrays(replace(Query("shop", 1), **given))
    assert (query.max_results, query.task_weights) == (5, {"like": 1.0, "watch": 0.5})
    assert (query.max_per_value, query.fields) == (MaxPerValue("year", 2), ("title", "year"))
    assert query.explain is True
    assert query.filter is given["filter"]


def test_a_query_as_its_type_says_is_the_same() -> None:
    query = Query(
        "shop",
        5,
        user_id="é",
        features={"x": ("é",)},
        filter=All((Match("tag", ("wool",)), Not(Range("year", 1.0)))),
        task_weights={"like": 0.5},
        max_per_value=MaxPerValue("year", 1),
        fields=("title",),
        explain=True,
    )
    assert with_arrays(query) is query
