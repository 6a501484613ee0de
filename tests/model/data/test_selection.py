from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from meshfold.model.data.selection import names_in, select_rows
from meshfold.model.data.table_column import TableColumn
from meshfold.model.errors import InvalidData
from meshfold.model.filter.text import parse_filter

ROWS = 4


def _columns(from_text: bool) -> dict[str, TableColumn]:
    held: dict[str, tuple[list[Any], pa.DataType]] = {
        "kind": (["buy", "view", None, "buy"], pa.string()),
        "amount": ([10.0, 4.5, None, -1.0], pa.float64()),
        "place": ([2**62 + 1, 3, None, 2**62], pa.int64()),
    }
    columns = {}
    for name, (rows, kind) in held.items():
        cells = pa.array(rows, kind)
        values = pa.chunked_array([cells.cast(pa.string()) if from_text else cells])
        columns[name] = TableColumn(name, values, ((Path("events"), ROWS),), from_text)
    return columns


@pytest.mark.parametrize("from_text", [False, True])
@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ('kind == "buy"', [0, 3]),
        ('kind != "buy"', [1, 2]),
        ('kind in ["view", "buy"] && amount >= -1', [0, 1, 3]),
        ("amount == 10", [0]),
        ("amount == 4.5", [1]),
        ("amount > 4.5", [0]),
        ("amount < 4.5", [3]),
        ("!(amount < 4.5)", [0, 1, 2]),
        (f"place == {2**62 + 1}", [0]),
        (f"place in [{2**62}, 3]", [1, 3]),
        ("place == 3 || amount == 10", [0, 1]),
        ("has(kind)", [0, 1, 3]),
        ("!has(kind)", [2]),
        ('at_least(2, kind == "buy", amount > 0, place == 3)', [0, 1]),
        ('at_least(0, kind == "buy")', [0, 1, 2, 3]),
        ("true", [0, 1, 2, 3]),
        ("false", []),
    ],
)
def test_rows_that_satisfy_a_filter(where: str, rows: list[int], from_text: bool) -> None:
    found = select_rows(parse_filter(where), _columns(from_text), ROWS)
    assert found.nonzero()[0].tolist() == rows


def test_names_are_those_of_every_test() -> None:
    where = parse_filter('!(a == 1) && (has(b) || at_least(1, c > 2.0, d == "x"))')
    assert list(names_in(where)) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("kind == 1", "column kind must hold numbers"),
        ("kind > 1", "column kind must hold numbers"),
        ('amount == "10"', "column amount must hold strings"),
    ],
)
def test_a_column_of_another_type_is_refused(where: str, message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        select_rows(parse_filter(where), _columns(False), ROWS)


def test_a_cell_of_text_that_is_no_number_is_named() -> None:
    with pytest.raises(InvalidData, match="events: column kind, row 1: expected a number, got 'buy'"):
        select_rows(parse_filter("kind > 1"), _columns(True), ROWS)


@pytest.mark.parametrize("where", ['kind == "a"', "kind == 1", "kind > 1", '!(kind in ["a"]) || has(kind)'])
def test_lists_are_refused(where: str) -> None:
    told = (
        "events: column kind must hold single values for a task's where, got list<string>; compare .*row 1: "
    )
    lists = pa.chunked_array([pa.array([["a"]] * ROWS)])
    column = TableColumn("kind", lists, ((Path("events"), ROWS),), False)
    with pytest.raises(InvalidData, match=told):
        select_rows(parse_filter(where), {"kind": column}, ROWS)


LARGE = 2**53
WHOLE_ROWS = [LARGE - 1, LARGE, LARGE + 1, LARGE + 2, -LARGE - 1, 2**63 - 1, -(2**63), None]


@pytest.mark.parametrize(
    ("kind", "from_text"),
    [(pa.int64(), False), (pa.decimal128(38, 0), False), (pa.string(), True)],
)
@pytest.mark.parametrize(
    ("where", "rows"),
    [
        (f"c > {LARGE}", [2, 3, 5]),
        (f"c >= {LARGE}", [1, 2, 3, 5]),
        (f"c < {LARGE + 2}", [0, 1, 2, 4, 6]),
        (f"c <= {LARGE}", [0, 1, 4, 6]),
        (f"c >= {LARGE}.0 && c < {LARGE + 2}", [1, 2]),
        (f"c < -{LARGE}", [4, 6]),
        ("c > 9.2e18", [5]),
        ("c >= 9.3e18 || c <= -9.3e18", []),
        ("c > -1e300 && c < 1e300", [0, 1, 2, 3, 4, 5, 6]),
        ('c < double("inf")', [0, 1, 2, 3, 4, 5, 6]),
        (f"c == {LARGE + 1}", [2]),
        (f"c in [{LARGE}, {2**63 - 1}]", [1, 5]),
        (f"!(c > {LARGE})", [0, 1, 4, 6, 7]),
    ],
)
def test_large_integers_are_compared_exactly(
    where: str, rows: list[int], kind: pa.DataType, from_text: bool
) -> None:
    given = [str(v) if from_text and v is not None else v for v in WHOLE_ROWS]
    column = TableColumn(
        "c", pa.chunked_array([pa.array(given, kind)]), ((Path("events"), len(given)),), from_text
    )
    found = select_rows(parse_filter(where), {"c": column}, len(given))
    assert found.nonzero()[0].tolist() == rows


def test_a_float_equals_no_integer_that_it_does_not_hold() -> None:
    values = pa.chunked_array([pa.array([2.0**53, 2.0**53 + 2, 1.5])])
    column = TableColumn("c", values, ((Path("events"), 3),), False)
    for asked, rows in ((LARGE, [0]), (LARGE + 1, []), (LARGE + 2, [1])):
        assert select_rows(parse_filter(f"c == {asked}"), {"c": column}, 3).nonzero()[0].tolist() == rows


def test_whole_numbers_beside_fractions_are_refused_where_no_float_holds_them() -> None:
    values = pa.chunked_array([pa.array(["1.5", str(LARGE + 1)])])
    column = TableColumn("c", values, ((Path("events"), 2),), True)
    with pytest.raises(InvalidData, match="events: column c, row 2: got 9007199254740993, which no float64"):
        select_rows(parse_filter("c > 1"), {"c": column}, 2)


def test_an_empty_string_is_missing_in_every_type() -> None:
    for kind in (pa.string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()), pa.binary()):
        values = pa.chunked_array([pa.array(["", "a", None], kind)])
        column = TableColumn("c", values, ((Path("events"), 3),), False)
        assert select_rows(parse_filter("has(c)"), {"c": column}, 3).tolist() == [False, True, False]
        assert select_rows(parse_filter('c == ""'), {"c": column}, 3).tolist() == [False, False, False]
