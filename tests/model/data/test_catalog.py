from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshfold.model.data.catalog import (
    Catalog,
    Column,
    no_vectors,
    number_keys,
    numbers_of_keys,
    repeated,
)
from meshfold.model.errors import InvalidData
from meshfold.model.schema import Field, FieldKind, Schema

NUMBERS = st.lists(st.floats(allow_nan=False), max_size=30)


def _catalog() -> Catalog:
    fields = (Field("colour", FieldKind.CATEGORY), Field("name", FieldKind.TEXT))
    return Catalog(
        schema=Schema("shop", fields, ("view",)),
        item_ids=np.array([5, -2, 9]),
        columns={"colour": Column.of_strings(FieldKind.CATEGORY, [["red"], [], ["blue"]])},
        texts={"name": ["a", "", "c"]},
        vectors=no_vectors,
        dimension=0,
    )


@given(NUMBERS)
def test_number_keys_have_the_order_of_the_numbers_and_an_inverse(numbers: list[float]) -> None:
    values = np.array(numbers, np.float64)
    keys = number_keys(values)
    np.testing.assert_array_equal(numbers_of_keys(keys), values)
    np.testing.assert_array_equal(keys[:, None] < keys[None, :], values[:, None] < values[None, :])
    np.testing.assert_array_equal(keys[:, None] == keys[None, :], values[:, None] == values[None, :])


@given(st.lists(st.sets(st.text(max_size=3), max_size=4), min_size=1, max_size=20))
def test_a_column_of_strings_gives_back_its_rows(rows: list[set[str]]) -> None:
    column = Column.of_strings(FieldKind.CATEGORIES, [sorted(row, reverse=True) for row in rows])
    assert column.vocabulary == tuple(sorted(set().union(*rows)))
    parts = np.split(column.values, column.offsets[1:-1])
    assert [{column.vocabulary[code] for code in part} for part in parts] == rows
    assert len(column) == len(rows)


def test_a_number_that_is_nan_is_missing() -> None:
    column = Column.of_numbers(np.array([1.5, np.nan, -0.0]))
    assert column.offsets.tolist() == [0, 1, 1, 2]
    assert numbers_of_keys(column.values).tolist() == [1.5, 0.0]


def test_popularity_is_zero_where_none_is_given() -> None:
    assert _catalog().popularity.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: replace(c, item_ids=np.empty(0, np.int64)), "has no items"),
        (lambda c: replace(c, item_ids=np.array([5, 9, 5])), "1 item ids occur more than once, such as 5"),
        (lambda c: replace(c, columns={}), "field colour must have one row for each of the 3 items"),
        (lambda c: replace(c, texts={"name": ["a"]}), "field name must have one text for each of the 3"),
        (lambda c: replace(c, popularity=np.ones(2, np.float32)), "popularity has 2 values for 3 items"),
        (lambda c: replace(c, popularity=np.array([1, -1, 0], np.float32)), "at least 0"),
        (lambda c: replace(c, popularity=np.array([1, np.inf, 0], np.float32)), "finite"),
    ],
)
def test_a_catalog_that_does_not_fit_is_refused(change: Callable[[Catalog], Catalog], message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        change(_catalog())


def test_a_catalog_without_vectors_says_how_to_make_them() -> None:
    with pytest.raises(InvalidData, match="meshfold vectors"):
        _catalog().vectors()


def test_an_array_becomes_the_vectors_and_can_be_read_again() -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    catalog = _catalog().with_array(vectors)
    assert catalog.dimension == 2
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate(list(catalog.vectors())), vectors)


@pytest.mark.parametrize("shape", [(2, 2), (3, 0), (3,)])
def test_an_array_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidData, match=r"vectors must be \[3, D\]"):
        _catalog().with_array(np.zeros(shape, np.float32))


def test_a_vector_that_is_not_finite_names_its_item() -> None:
    vectors = np.zeros((3, 2), np.float32)
    vectors[1, 1] = np.inf
    with pytest.raises(InvalidData, match="item -2"):
        _catalog().with_array(vectors)


@given(st.lists(st.integers(-3, 3), max_size=12))
def test_repeated_ids_are_those_that_come_more_than_once(ids: list[int]) -> None:
    assert repeated(np.array(ids, np.int64)).tolist() == sorted({i for i in ids if ids.count(i) > 1})
