"""Lists where arrays belong, in every query that Python can ask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from meshfold.model.errors import InvalidQuery
from meshfold.model.query_lists import with_arrays
from meshfold.model.types import EmbedQuery, Query, ScoreQuery, SearchQuery, User

LISTS = [
    [3, 14, 15],
    (3, 14, 15),
    np.array([3, 14, 15], np.int32),
    np.array([3, 14, 15], np.uint64),
    [np.int32(3), np.int64(14), 15],
    torch.tensor([3, 14, 15]),
    pa.array([3, 14, 15]),
]


@pytest.mark.parametrize("given", LISTS, ids=lambda given: f"{type(given).__module__}.{type(given).__name__}")
def test_ids_of_any_list_are_an_array(given: Any) -> None:
    query = with_arrays(Query("shop", 5, history=given, excluded_ids=given))
    (user,) = with_arrays(EmbedQuery("shop", (User(history=given),))).users
    search = with_arrays(SearchQuery("shop", 5, (), excluded_ids=given))
    score = with_arrays(ScoreQuery("shop", User(history=given), given))
    lists = (
        query.history,
        query.excluded_ids,
        user.history,
        search.excluded_ids,
        score.item_ids,
        score.user.history,
    )
    for ids in lists:
        assert isinstance(ids, np.ndarray)
        assert ids.dtype == np.int64
        assert ids.tolist() == [3, 14, 15]


@pytest.mark.parametrize("given", [["a", "é"], ("a", "é"), np.array(["a", "é"]), pa.array(["a", "é"])])
def test_strings_of_any_list_are_a_tuple(given: Any) -> None:
    assert with_arrays(Query("shop", 5, history=given)).history == ("a", "é")
    assert with_arrays(ScoreQuery("shop", User(), given)).item_ids == ("a", "é")


@pytest.mark.parametrize(
    ("given", "dtype", "values"),
    [
        ([1, 2], np.int64, [1, 2]),
        ([0.5, 2], np.float32, [0.5, 2.0]),
        (np.array([0.5, 2.0]), np.float32, [0.5, 2.0]),
        (np.array([0.5], np.float16), np.float32, [0.5]),
        (np.array([1], np.int8), np.int64, [1]),
        (torch.tensor([0.5]), np.float32, [0.5]),
        (np.array([[0.5, 1.0], [2.0, 4.0]], np.float32), np.float32, [0.5, 1.0, 2.0, 4.0]),
    ],
)
def test_features_of_any_list_are_of_one_kind(given: Any, dtype: Any, values: list[float]) -> None:
    (user,) = with_arrays(EmbedQuery("shop", (User(features={"x": given}),))).users
    for features in (with_arrays(Query("shop", 5, features={"x": given})).features, user.features):
        held = features["x"]
        assert isinstance(held, np.ndarray)
        assert held.dtype == dtype
        assert held.tolist() == values


@pytest.mark.parametrize(
    "given", [[[0.5, 1]], ([0.5, 1.0],), np.array([[0.5, 1.0]]), torch.tensor([[0.5, 1.0]])]
)
def test_query_vectors_of_any_list(given: Any) -> None:
    (vector,) = with_arrays(SearchQuery("shop", 5, given)).queries
    assert vector.dtype == np.float32
    assert vector.tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("query", "path"),
    [
        (Query("shop", 5, history="1,2"), "history"),  # type: ignore[arg-type]
        (Query("shop", 5, filter="year >= 2000"), "filter"),  # type: ignore[arg-type]
        (EmbedQuery("shop", (User(), User(history=[1.5]))), "users[1].history[0]"),  # type: ignore[arg-type]
        (EmbedQuery("shop", (User(features={"x": 8}),)), 'users[0].features["x"]'),  # type: ignore[dict-item]
        (SearchQuery("shop", 5, (["a"],)), "queries[0][0]"),  # type: ignore[arg-type]
        (SearchQuery("shop", 5, (3,)), "queries[0]"),  # type: ignore[arg-type]
        (SearchQuery("shop", 5, (), excluded_ids=7), "excluded_ids"),  # type: ignore[arg-type]
        (ScoreQuery("shop", User(), [1, "a"]), "item_ids[1]"),  # type: ignore[arg-type]
        # The first that differs from those before it.
        (Query("shop", 5, history=["007", None]), "history[1]"),  # type: ignore[arg-type]
        (Query("shop", 5, history=np.array(["007", "8", None], object)), "history[2]"),
        (Query("shop", 5, history=[None, "007"]), "history[0]"),  # type: ignore[arg-type]
        (Query("shop", 5, history=np.array([5, np.nan])), "history[1]"),
        (Query("shop", 5, excluded_ids=[7, None]), "excluded_ids[1]"),  # type: ignore[arg-type]
        (Query("shop", 5, history=[np.array([1, 2])]), "history[0]"),  # type: ignore[arg-type]
        (Query("shop", 5, features={"x": ["a", None]}), 'features["x"][1]'),  # type: ignore[dict-item]
        (Query("shop", 5, features={"x": ["a", 0.5]}), 'features["x"][1]'),  # type: ignore[dict-item]
        (ScoreQuery("shop", User(), pa.array(["a", None])), "item_ids[1]"),
    ],
)
def test_what_is_no_list_is_refused_by_its_path(query: Any, path: str) -> None:
    with pytest.raises(InvalidQuery) as caught:
        with_arrays(query)
    assert caught.value.path == path


def test_what_fits_is_not_made_anew() -> None:
    user = User(7, np.array([1, 2]), {"x": np.array([0.5], np.float32), "y": ("a",)})
    query = Query("shop", 5, user_id=7, history=user.history, features=user.features, excluded_ids=("a", "b"))
    assert with_arrays(query) is query
    for other in (
        EmbedQuery("shop", (user,)),
        SearchQuery("shop", 5, (np.ones(2, np.float32),)),
        ScoreQuery("shop", user, user.history),
    ):
        assert with_arrays(other) is other
