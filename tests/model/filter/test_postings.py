import numpy as np
import pytest

from meshfold.model.data.catalog import Column
from meshfold.model.filter.index import layout_of, take
from meshfold.model.filter.postings import Postings, postings_of
from meshfold.model.schema import Field, FieldKind, Schema
from meshfold.model.types import Int64s

KINDS = (FieldKind.INTEGER, FieldKind.INTEGERS, FieldKind.NUMBER, FieldKind.INTEGERS)
SCHEMA = Schema("s", tuple(Field(f"f{i}", kind) for i, kind in enumerate(KINDS)), ("t",))


def columns(n: int, scale: int) -> list[Column]:
    """Few values; many, one of them with every third item; numbers; many of one value an item at most."""
    rng = np.random.default_rng(n)

    def drawn(most: int, length: int) -> list[int]:
        return [int(v) * scale for v in rng.integers(-most, most, length)]

    tags = [[*drawn(400, int(rng.integers(0, 5))), *([scale] if i % 3 == 0 else [])] for i in range(n)]
    return [
        Column.of_integers(FieldKind.INTEGER, [drawn(5, 1) for _ in range(n)]),
        Column.of_integers(FieldKind.INTEGERS, tags),
        Column.of_numbers(rng.standard_normal(n)),
        Column.of_integers(FieldKind.INTEGERS, [drawn(10**6, 1) if i % 2 else [] for i in range(n)]),
    ]


def listed(lists: Postings, field: int) -> dict[int, list[int]]:
    found = {}
    for place in range(int(lists.fields[field]), int(lists.fields[field + 1])):
        first, last = lists.offsets[place : place + 2]
        found[int(lists.values[place])] = lists.positions[first:last].tolist()
    return found


def by_value(lengths: Int64s, values: Int64s, planes: set[int]) -> dict[int, list[int]]:
    found: dict[int, set[int]] = {}
    ends = np.cumsum(lengths)
    for position, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        for value in values[end - length : end]:
            if int(value) not in planes:
                found.setdefault(int(value), set()).add(position)
    return {value: sorted(found[value]) for value in sorted(found)}


# Values that lie close together, and so far apart that their span is more than 64 bits hold.
@pytest.mark.parametrize("scale", [1, 2**40, 2**63 // 10**6])
@pytest.mark.parametrize("n", [300, 3000])
def test_every_value_without_a_plane_has_a_list_of_who_holds_it(n: int, scale: int) -> None:
    made = columns(n, scale)
    layout = layout_of(SCHEMA, {f"f{i}": column for i, column in enumerate(made)})
    order = np.random.default_rng(1).permutation(n)
    held = [take(column, order) for column in made]
    lists = postings_of(layout, held)
    assert lists.positions.dtype == np.int32
    assert len(lists.fields) == 5
    assert lists.fields[0] == lists.offsets[0] == 0
    assert lists.fields[-1] == len(lists.values) == len(lists.offsets) - 1
    assert lists.offsets[-1] == len(lists.positions)
    assert not listed(lists, 0), "every value has a plane"
    assert not listed(lists, 2), "numbers are compared"
    for field in (1, 3):
        planes = {int(v) for v in layout.fields[field].plane_values}
        assert (len(planes) > 0) == (field == 1)
        found = listed(lists, field)
        assert found == by_value(*held[field], planes)
        assert list(found) == sorted(found)


def test_a_value_that_an_item_holds_twice_is_listed_once() -> None:
    rows = [[7, 9, 7], [], [9, 9]] + [[1000 + i] for i in range(200)]
    lengths = np.array([len(row) for row in rows])
    values = np.array([v for row in rows for v in row])
    column = Column(FieldKind.INTEGERS, np.concatenate([[0], np.cumsum(lengths)]), values)
    schema = Schema("s", (Field("f", FieldKind.INTEGERS),), ("t",))
    lists = postings_of(layout_of(schema, {"f": column}), [(lengths, values)])
    found = listed(lists, 0)
    assert (found[7], found[9], found[1000]) == ([0], [0, 2], [3])


def test_fields_of_few_values_have_no_lists() -> None:
    column = Column.of_integers(FieldKind.INTEGER, [[i % 3] for i in range(10)])
    schema = Schema("s", (Field("f", FieldKind.INTEGER),), ("t",))
    lists = postings_of(layout_of(schema, {"f": column}), [take(column, np.arange(10))])
    assert lists.fields.tolist() == [0, 0]
    assert (len(lists.values), lists.offsets.tolist(), len(lists.positions)) == (0, [0], 0)
