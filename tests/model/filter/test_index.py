from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from meshfold.model.data.catalog import Column
from meshfold.model.filter.index import HASHES, PLANE_VALUES, FilterLayout, layout_of, sign, take
from meshfold.model.schema import Field, FieldKind, Schema
from meshfold.model.types import Int64s

INT64 = np.iinfo(np.int64)
KINDS = (FieldKind.INTEGER, FieldKind.INTEGERS, FieldKind.CATEGORY, FieldKind.CATEGORIES, FieldKind.NUMBER)
# One item, one bundle, a bundle of its own after many, and sizes on either side.
SIZES = (1, 63, 511, 512, 513, 1024, 1025, 64 * 512, 64 * 512 + 1)


def schema(*kinds: FieldKind) -> Schema:
    return Schema("s", tuple(Field(f"f{i}", kind) for i, kind in enumerate(kinds)), ("t",))


def integers(rows: Sequence[Sequence[int]], kind: FieldKind = FieldKind.INTEGERS) -> Column:
    return Column.of_integers(kind, rows)


def random_columns(n: int) -> list[Column]:
    """One of each kind in KINDS; the second and the fourth have more values than planes are made for."""
    rng = np.random.default_rng(n)
    few = [[int(v)] if v else [] for v in rng.integers(0, 5, n)]
    many = [[int(v) * 3**34 for v in rng.integers(-200, 200, rng.integers(0, 4))] for _ in range(n)]
    numbers = rng.standard_normal(n)
    numbers[rng.random(n) < 0.3] = np.nan
    return [
        integers(few, FieldKind.INTEGER),
        integers(many),
        Column.of_strings(FieldKind.CATEGORY, [[str(v) for v in row] for row in few]),
        Column.of_strings(FieldKind.CATEGORIES, [[str(v) for v in row] for row in many]),
        Column.of_numbers(numbers),
    ]


def bits_of(signature: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.bool_]:
    """[N, R] bool: bit j of word w of bundle g stands for position 512 g + 64 w + j."""
    at = np.arange(n)
    words = signature[at // 512, :, at % 512 // 64].view(np.uint64)
    return (words >> (at % 64).astype(np.uint64)[:, None] & np.uint64(1)).astype(bool)


def layout(columns: Sequence[Column], kinds: Sequence[FieldKind] = KINDS) -> FilterLayout:
    return layout_of(schema(*kinds), {f"f{i}": column for i, column in enumerate(columns)})


@pytest.mark.parametrize("n", SIZES)
def test_every_item_has_the_rows_of_its_fields_and_values(n: int) -> None:
    columns = random_columns(n)
    order = np.random.default_rng(1).permutation(n)
    plan = layout(columns)
    signature = sign(plan, columns, order)
    assert signature.shape == (-(-n // 512), plan.rows, 8)
    bits = bits_of(signature, n)
    for f, column in enumerate(columns):
        lengths, values = take(column, order)
        np.testing.assert_array_equal(bits[:, f], lengths > 0)
        if column.kind is FieldKind.NUMBER:
            continue
        rows = plan.value_rows(f, values)
        owners = np.repeat(np.arange(n), lengths)
        assert (rows >= len(columns)).all()
        assert bits[owners[:, None], rows].all(), "a value that an item holds has no bit"
        index = plan.fields[f]
        if index.plane_values is not None:
            expected = np.zeros((n, len(index.plane_values)), bool)
            expected[owners, np.searchsorted(index.plane_values, values)] = True
            first = index.first_plane
            np.testing.assert_array_equal(bits[:, first : first + len(index.plane_values)], expected)
    assert not bits_of(signature, len(signature) * 512)[n:].any(), "a bit past the last item is set"


@pytest.mark.parametrize(("values", "planes"), [(0, True), (1, True), (64, True), (65, False), (200, False)])
def test_fields_of_few_values_have_planes(values: int, planes: bool) -> None:
    column = integers([[v % values] if values else [] for v in range(70_000)])
    (index,) = layout([column], [FieldKind.INTEGERS]).fields
    assert (index.plane_values is not None) == planes == (values <= PLANE_VALUES)
    if index.plane_values is not None:
        assert index.plane_values.tolist() == list(range(values))


def test_fields_never_share_a_plane() -> None:
    columns = [integers([[i % size] for i in range(600)]) for size in (3, 64, 1, 65, 5)]
    plan = layout(columns, [FieldKind.INTEGERS] * 5)
    spans = [
        range(index.first_plane, index.first_plane + len(index.plane_values))
        for index in plan.fields
        if index.plane_values is not None
    ]
    taken = [row for span in spans for row in span]
    assert sorted(taken) == list(range(5, 5 + 3 + 64 + 1 + 5))
    assert plan.first_bloom == 5 + 73
    assert plan.rows == plan.first_bloom + plan.bloom_rows


def test_bloom_rows_are_a_value_s_own_in_its_field() -> None:
    columns = [integers([[i] for i in range(1000)]) for _ in range(2)]
    plan = layout(columns, [FieldKind.INTEGERS] * 2)
    values = np.array([INT64.min, -1, 0, 1, INT64.max, *range(2, 500)], np.int64)
    first, second = plan.value_rows(0, values), plan.value_rows(1, values)
    assert first.shape == (len(values), HASHES)
    for rows in (first, second):
        assert (rows >= plan.first_bloom).all()
        assert (rows < plan.rows).all()
    assert (first != second).any(1).mean() > 0.9, "equal values of two fields share their bits"
    np.testing.assert_array_equal(plan.value_rows(0, values[::-1])[::-1], first)


def test_the_share_of_items_that_a_bloom_term_lets_through_is_small() -> None:
    n = 20_000
    rng = np.random.default_rng(0)
    columns = [integers([rng.integers(0, 5000, 3).tolist() for _ in range(n)]) for _ in range(2)]
    plan = layout(columns, [FieldKind.INTEGERS] * 2)
    bits = bits_of(sign(plan, columns, np.arange(n)), n)
    absent = plan.value_rows(0, np.arange(10_000, 10_200))
    wrong = np.mean([bits[:, rows].all(1).mean() for rows in absent])
    # ROWS_PER_VALUE promises 0.65 %; hashes that fall together cost some more.
    assert 0.003 < wrong < 0.013


def test_values_that_no_item_holds_have_no_row_where_planes_are_exact() -> None:
    column = integers([[10], [20], [INT64.max], [INT64.min]], FieldKind.INTEGER)
    plan = layout([column], [FieldKind.INTEGER])
    rows = plan.value_rows(0, np.array([INT64.min, 5, 10, 15, 20, 25, INT64.max], np.int64))
    assert (rows == rows[:, :1]).all()
    assert rows[:, 0].tolist() == [1, -1, 2, -1, 3, -1, 4]
    empty = layout([integers([[], []])], [FieldKind.INTEGERS])
    assert (empty.value_rows(0, np.array([0, 1], np.int64)) == -1).all()
    assert empty.rows == 1


def test_a_catalog_without_fields_has_a_signature_of_no_rows() -> None:
    plan = layout([], [])
    assert plan.rows == 0
    assert sign(plan, [], np.arange(600)).shape == (2, 0, 8)


def test_take_gathers_the_values_of_places_in_their_order() -> None:
    rows = [[1, 2], [], [3], [4, 5, 6], []]
    lengths, values = take(integers(rows), np.array([3, 1, 0, 0, 4, 2]))
    assert lengths.tolist() == [3, 0, 2, 2, 0, 1]
    assert values.tolist() == [4, 5, 6, 1, 2, 1, 2, 3]
    none: tuple[Int64s, Any] = take(integers(rows), np.empty(0, np.int64))
    assert none[0].tolist() == none[1].tolist() == []
