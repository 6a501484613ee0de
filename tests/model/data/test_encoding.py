import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshfold.model.data.catalog import Column
from meshfold.model.data.encoding import encode_column, encode_text
from meshfold.model.data.table_column import TableColumn
from meshfold.model.errors import InvalidData
from meshfold.model.schema import FieldKind

INT64 = st.integers(-(2**63), 2**63 - 1)
WORDS = st.text("ab|;é\U0001f600 ", max_size=3)


def _column(rows: list[Any], kind: pa.DataType, from_text: bool = False) -> TableColumn:
    # Two chunks, for columns come in several.
    half = len(rows) // 2
    values = pa.chunked_array([pa.array(rows[:half], kind), pa.array(rows[half:], kind)])
    return TableColumn("c", values, ((Path("items"), len(rows)),), from_text)


def _same(one: Column, other: Column) -> None:
    assert (one.kind, one.vocabulary) == (other.kind, other.vocabulary)
    np.testing.assert_array_equal(one.offsets, other.offsets)
    np.testing.assert_array_equal(one.values, other.values)


@given(st.lists(st.none() | st.lists(st.none() | WORDS, max_size=4), max_size=12))
def test_lists_of_strings(rows: list[list[str | None] | None]) -> None:
    plain = [[v for v in row or [] if v] for row in rows]
    expected = Column.of_strings(FieldKind.CATEGORIES, plain)
    for kind in (pa.list_(pa.string()), pa.large_list(pa.dictionary(pa.int32(), pa.string()))):
        _same(encode_column(FieldKind.CATEGORIES, _column(rows, kind)), expected)


@given(st.lists(st.none() | WORDS, max_size=12))
def test_strings_cut_at_a_separator(rows: list[str | None]) -> None:
    plain = [[v for v in (row or "").split("|") if v] for row in rows]
    encoded = encode_column(FieldKind.CATEGORIES, _column(rows, pa.string(), True), "|")
    _same(encoded, Column.of_strings(FieldKind.CATEGORIES, plain))


@given(st.lists(st.none() | WORDS, max_size=12))
def test_one_string_a_row(rows: list[str | None]) -> None:
    expected = Column.of_strings(FieldKind.CATEGORY, [[v] if v else [] for v in rows])
    for kind in (pa.string(), pa.dictionary(pa.int8(), pa.string())):
        _same(encode_column(FieldKind.CATEGORY, _column(rows, kind)), expected)


@given(st.lists(st.none() | st.lists(st.none() | INT64, max_size=4), max_size=12))
def test_lists_of_integers(rows: list[list[int | None] | None]) -> None:
    plain = [[v for v in row or [] if v is not None] for row in rows]
    expected = Column.of_integers(FieldKind.INTEGERS, plain)
    _same(encode_column(FieldKind.INTEGERS, _column(rows, pa.list_(pa.int64()))), expected)
    text = [None if row is None else ";".join(map(str, row)) for row in plain]
    _same(encode_column(FieldKind.INTEGERS, _column(text, pa.string(), True), ";"), expected)


@given(st.lists(st.none() | INT64, max_size=12))
def test_one_integer_a_row(rows: list[int | None]) -> None:
    expected = Column.of_integers(FieldKind.INTEGER, [[] if v is None else [v] for v in rows])
    _same(encode_column(FieldKind.INTEGER, _column(rows, pa.int64())), expected)


@given(st.lists(st.none() | st.floats(), max_size=12))
def test_one_number_a_row(rows: list[float | None]) -> None:
    expected = Column.of_numbers(np.array([np.nan if v is None else v for v in rows], np.float64))
    _same(encode_column(FieldKind.NUMBER, _column(rows, pa.float64())), expected)


def test_lists_of_fixed_size_with_a_missing_row() -> None:
    column = _column([[3, 1], None, [2, 2]], pa.list_(pa.int32(), 2))
    encoded = encode_column(FieldKind.INTEGERS, column)
    _same(encoded, Column.of_integers(FieldKind.INTEGERS, [[1, 3], [], [2]]))


def test_a_column_that_is_all_null_has_no_values() -> None:
    column = _column([None, None], pa.null())
    for kind in (FieldKind.CATEGORY, FieldKind.INTEGER, FieldKind.NUMBER):
        assert encode_column(kind, column).offsets.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("kind", "rows", "held", "message"),
    [
        (FieldKind.CATEGORY, [1, 2], pa.int64(), "items: column c must hold strings, got int64"),
        (FieldKind.CATEGORY, [["a"], []], pa.list_(pa.string()), "make the field's kind categories"),
        (FieldKind.INTEGER, [[1], []], pa.list_(pa.int64()), "make the field's kind integers"),
        (FieldKind.CATEGORIES, ["a", "b"], pa.string(), "separator"),
        (FieldKind.INTEGER, ["1", "2"], pa.string(), "must hold numbers, got string"),
        (FieldKind.INTEGER, [1.0, 1.5], pa.float64(), "row 2: expected an int64 number, got 1.5"),
        (FieldKind.INTEGERS, [[1], [2, 2**63]], pa.list_(pa.uint64()), "row 2: expected an int64 number"),
        (FieldKind.NUMBER, [[1.0], []], pa.list_(pa.float64()), "must hold numbers"),
    ],
)
def test_a_column_of_another_type_is_refused(
    kind: FieldKind, rows: list[Any], held: pa.DataType, message: str
) -> None:
    with pytest.raises(InvalidData, match=message):
        encode_column(kind, _column(rows, held))


@pytest.mark.parametrize("kind", [FieldKind.INTEGER, FieldKind.NUMBER])
def test_a_bad_cell_is_named_by_its_row(kind: FieldKind) -> None:
    rows = ["1"] * 700 + ["one"] + ["2"] * 50 + ["two"]
    with pytest.raises(InvalidData, match="items: column c, row 701: expected .* got 'one'"):
        encode_column(kind, _column(rows, pa.string(), True))


def test_a_bad_part_of_a_cell_is_named_by_its_row() -> None:
    with pytest.raises(InvalidData, match="row 3: expected an int64 number, got 'x'"):
        encode_column(FieldKind.INTEGERS, _column(["1;2;3", "4", "5;x"], pa.string(), True), ";")


def test_texts_are_empty_where_missing() -> None:
    assert encode_text(_column(["a", None, ""], pa.string())) == ["a", "", ""]
    with pytest.raises(InvalidData, match="one string a row"):
        encode_text(_column([["a"]], pa.list_(pa.string())))


def test_a_million_items_of_eight_values_take_seconds() -> None:
    n = 1_000_000
    words = pa.array([f"word {i}" for i in range(5000)])
    drawn = np.random.default_rng(0).integers(0, 5000, 8 * n)
    lists = pa.ListArray.from_arrays(pa.array(np.arange(0, 8 * n + 1, 8), pa.int32()), words.take(drawn))
    column = TableColumn("c", pa.chunked_array([lists]), ((Path("items"), n),), False)
    start_s = time.process_time()
    encoded = encode_column(FieldKind.CATEGORIES, column)
    assert time.process_time() - start_s < 8
    assert encoded.vocabulary is not None
    row = encoded.values[encoded.offsets[77] : encoded.offsets[78]]
    assert {encoded.vocabulary[c] for c in row} == {f"word {i}" for i in drawn[77 * 8 : 78 * 8]}
