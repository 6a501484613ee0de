from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from meshfold.model.data.catalog import Column
from meshfold.model.filter.bloom import ValuesPerItem, false_positives
from meshfold.model.filter.index import PLANE_VALUES, FilterLayout, layout_of, sign, take
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
        rows, _ = plan.value_rows(f, values)
        owners = np.repeat(np.arange(n), lengths)
        assert (rows >= len(columns)).all()
        assert bits[owners[:, None], rows].all(), "a value that an item holds has no bit"
        index, first = plan.fields[f], plan.first_rows[f]
        for j, value in enumerate(index.plane_values.tolist()):
            expected = np.zeros(n, bool)
            expected[owners[values == value]] = True
            np.testing.assert_array_equal(bits[:, first + j], expected)
    assert not bits_of(signature, len(signature) * 512)[n:].any(), "a bit past the last item is set"


@pytest.mark.parametrize(("values", "planes"), [(0, True), (1, True), (64, True), (65, False), (200, False)])
def test_fields_of_few_values_have_planes(values: int, planes: bool) -> None:
    column = integers([[v % values] if values else [] for v in range(70_000)])
    (index,) = layout([column], [FieldKind.INTEGERS]).fields
    assert (index.bloom is None) == planes == (values <= PLANE_VALUES)
    if planes:
        assert index.plane_values.tolist() == list(range(values))


def test_values_that_many_items_hold_have_planes() -> None:
    """Value v is held by one item in v + 1."""
    n = 60_000
    column = integers([[v for v in range(100) if i % (v + 1) == 0] for i in range(n)])
    (index,) = layout([column], [FieldKind.INTEGERS]).fields
    assert index.plane_values.tolist() == list(range(64))
    assert index.bloom is not None
    held = [i % 2 for i in range(100 * 64)]
    (index,) = layout(
        [integers([[v] if v else [10 + i] for i, v in enumerate(held)])], [FieldKind.INTEGER]
    ).fields
    assert index.plane_values.tolist() == [1]


def test_no_more_values_have_planes_than_there_may_be() -> None:
    column = integers([list(range(100 - i % 36)) for i in range(3600)])
    (index,) = layout([column], [FieldKind.INTEGERS]).fields
    assert index.plane_values.tolist() == list(range(PLANE_VALUES))


def test_rows_are_told_to_be_exact_where_they_are() -> None:
    columns = random_columns(3000)
    plan = layout(columns)
    rows, exact = plan.value_rows(1, columns[1].values)
    assert exact.dtype == bool
    assert exact.tolist() == np.isin(columns[1].values, plan.fields[1].plane_values).tolist()
    planes = range(plan.first_rows[1], plan.first_rows[1] + len(plan.fields[1].plane_values))
    assert {row in planes for row in rows[exact].flatten().tolist()} <= {True}
    assert {row in planes for row in rows[~exact].flatten().tolist()} == {False}
    assert not plan.value_rows(4, columns[4].values)[1].any()


def test_every_field_has_rows_of_its_own() -> None:
    columns = [
        integers([[i] for i in range(600)][:size] + [[0]] * (600 - size)) for size in (3, 64, 65, 1, 600)
    ]
    plan = layout(columns, [FieldKind.INTEGERS] * 5)
    spans = [range(first, first + f.rows) for first, f in zip(plan.first_rows, plan.fields, strict=True)]
    assert [f.bloom is not None for f in plan.fields] == [False, False, True, False, True]
    assert [row for span in spans for row in span] == list(range(5, plan.rows))
    values = np.arange(-5, 605)
    for field, span in enumerate(spans):
        rows, exact = plan.value_rows(field, values)
        assert rows.shape == (len(values), plan.hashes)
        assert exact.shape == (len(values),)
        assert set(rows.flatten().tolist()) <= {-1, *span}


def test_bloom_rows_follow_from_the_value() -> None:
    (column,) = [integers([[i] for i in range(1000)])]
    plan = layout([column], [FieldKind.INTEGERS])
    values = np.array([INT64.min, -1, 0, 1, INT64.max, *range(2, 500)], np.int64)
    rows, _ = plan.value_rows(0, values)
    np.testing.assert_array_equal(plan.value_rows(0, values[::-1])[0][::-1], rows)
    assert len(np.unique(rows, axis=0)) > 400


def test_fields_of_fewer_hashes_repeat_a_row() -> None:
    one = integers([[i] for i in range(600)], FieldKind.INTEGER)
    many = integers([list(range(i, i + 30)) for i in range(600)])
    plan = layout([one, many], [FieldKind.INTEGER, FieldKind.INTEGERS])
    blooms = [f.bloom for f in plan.fields]
    assert blooms[0] is not None
    assert blooms[1] is not None
    assert 1 < blooms[0].hashes < blooms[1].hashes == plan.hashes
    rows, _ = plan.value_rows(0, np.arange(600))
    assert (rows[:, blooms[0].hashes :] == rows[:, blooms[0].hashes - 1 : blooms[0].hashes]).all()


@pytest.mark.parametrize("many", [1, 3, 20])
def test_the_share_of_items_that_a_bloom_term_lets_through_is_the_expected_one(many: int) -> None:
    n = 20_000
    rng = np.random.default_rng(0)
    columns = [integers(np.sort(rng.integers(0, 5000, (n, many)), 1).tolist()) for _ in range(2)]
    plan = layout(columns, [FieldKind.INTEGERS] * 2)
    bits = bits_of(sign(plan, columns, np.arange(n)), n)
    absent, _ = plan.value_rows(0, np.arange(10_000, 10_400))
    wrong = float(np.mean([bits[:, rows].all(1).mean() for rows in absent]))
    bloom = plan.fields[0].bloom
    assert bloom is not None
    expected = false_positives(bloom, ValuesPerItem.of(np.diff(columns[0].offsets)))
    assert wrong == pytest.approx(expected, rel=0.2, abs=2e-4)
    assert wrong < 0.005


def test_rows_follow_the_catalog_whatever_its_order() -> None:
    columns = random_columns(3000)
    order = np.random.default_rng(0).permutation(3000)
    shuffled = [
        Column(c.kind, np.concatenate([[0], np.cumsum(take(c, order)[0])]), take(c, order)[1], c.vocabulary)
        for c in columns
    ]
    plan, other = layout(columns), layout(shuffled)
    assert [f.bloom for f in plan.fields] == [f.bloom for f in other.fields]
    np.testing.assert_array_equal(sign(plan, columns, order), sign(other, shuffled, np.arange(3000)))


def test_arrays_that_cannot_be_written_are_read() -> None:
    columns = random_columns(600)
    for column in columns:
        column.values.setflags(write=False)
        column.offsets.setflags(write=False)
    assert sign(layout(columns), columns, np.arange(600)).any()


def test_values_that_no_item_holds_have_no_row_where_planes_are_exact() -> None:
    column = integers([[10], [20], [INT64.max], [INT64.min]], FieldKind.INTEGER)
    plan = layout([column], [FieldKind.INTEGER])
    rows, exact = plan.value_rows(0, np.array([INT64.min, 5, 10, 15, 20, 25, INT64.max], np.int64))
    assert exact.tolist() == [True, False] * 3 + [True]
    assert (rows == rows[:, :1]).all()
    assert rows[:, 0].tolist() == [1, -1, 2, -1, 3, -1, 4]
    empty = layout([integers([[], []])], [FieldKind.INTEGERS])
    assert (empty.value_rows(0, np.array([0, 1], np.int64))[0] == -1).all()
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
