import math
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshfold.model.data.table_column import TableColumn
from meshfold.model.errors import InvalidData


def _column(values: Sequence[Any], kind: pa.DataType, from_text: bool = False) -> TableColumn:
    held = pa.chunked_array([pa.array(values, kind)])
    return TableColumn("c", held, ((Path("items"), len(values)),), from_text)


def _text(*cells: str | None) -> TableColumn:
    return _column(cells, pa.string(), from_text=True)


@pytest.mark.parametrize(
    "cell", ["1995", "1995.0", "1995.", "1995.000", "1.995e+03", "1995e0", "199.5E1", "01995"]
)
def test_whole_numbers_as_programs_write_them(cell: str) -> None:
    assert _text("7", cell, None, f"-{cell}").integers().to_pylist() == [7, 1995, None, -1995]
    assert _text(cell, "3.0").ids().tolist() == [1995, 3]


@pytest.mark.parametrize(
    "cell",
    [
        "1995.5",
        "1.9955e+03",
        "x",
        "1,995",
        "0x7cb",
        "nan",
        "inf",
        "1995.0.0",
        "1e400",
        ".",
        "e5",
        "9223372036854775808",
    ],
)
def test_what_is_no_whole_number_is_named(cell: str) -> None:
    with pytest.raises(InvalidData, match="items: column c, row 3: expected an int64 number, got '"):
        _text("7", None, cell, "8.0").integers()


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_integers_of_every_size_are_exact(values: list[int]) -> None:
    for column in (
        _text(*map(str, values)),
        _column(values, pa.int64()),
        _column(values, pa.decimal128(38, 1)),
    ):
        assert column.integers().to_pylist() == values


@given(st.lists(st.integers(-(2**53) + 1, 2**53 - 1)))
def test_integers_as_floats_write_them(values: list[int]) -> None:
    for form in ("{:.1f}", "{:.18e}", "{!r}"):
        assert _text(*(form.format(float(v)) for v in values)).integers().to_pylist() == values
    assert _column(values, pa.float64()).integers().to_pylist() == values


@pytest.mark.parametrize("value", [2.0**53, -(2.0**53), 1.768907725507217522e18])
def test_floats_that_may_have_been_other_integers_are_refused(value: float) -> None:
    for column in (
        _column([1.0, None, value], pa.float64()),
        _text("1", None, repr(value) if abs(value) < 1e16 else f"{value:.1f}"),
        _text("1", None, f"{value:.18e}"),
    ):
        with pytest.raises(
            InvalidData, match="items: column c, row 3: .* written as a float; .* write the column as"
        ):
            column.integers()


@pytest.mark.parametrize(
    ("kind", "limit"), [(pa.float16(), 2**11), (pa.float32(), 2**24), (pa.float64(), 2**53)]
)
def test_each_float_type_has_its_own_limit(kind: pa.DataType, limit: int) -> None:
    assert _column([float(limit - 1)], kind).integers().to_pylist() == [limit - 1]
    with pytest.raises(InvalidData, match=f"written as a float; floats from {limit} on"):
        _column([float(limit)], kind).integers()


@pytest.mark.parametrize(
    "column",
    [
        _column([1, None, 2**53 + 1], pa.int64()),
        _column([1, None, -(2**53) - 1], pa.int64()),
        _column([1, None, 2**63 - 1], pa.int64()),
        _column([1, None, 2**64 - 1], pa.uint64()),
        _column([1, None, Decimal(2**53 + 1)], pa.decimal128(38, 0)),
        _column([1, None, Decimal(2**53 + 1)], pa.decimal128(38, 2)),
        _text("1.5", None, str(2**53 + 1)),
        _text("1.5", None, f"{2**53 + 1}.0"),
    ],
)
def test_whole_numbers_that_no_float64_holds_are_refused(column: TableColumn) -> None:
    with pytest.raises(
        InvalidData,
        match="items: column c, row 3: got .*, which no float64 holds exactly; use kind integer, which holds",
    ):
        column.floats()


@given(st.lists(st.floats(allow_nan=False)))
def test_floats_are_what_they_were(values: list[float]) -> None:
    for column in (_column(values, pa.float64()), _text(*map(repr, values))):
        assert column.floats().to_pylist() == values


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_integers_become_floats_only_where_they_stay_what_they_are(values: list[int]) -> None:
    exact = all(int(float(v)) == v for v in values)
    for column in (_column(values, pa.int64()), _text(*map(str, values))):
        if exact:
            assert column.floats().to_pylist() == values
        else:
            with pytest.raises(InvalidData, match="which no float64 holds exactly"):
                column.floats()


def test_large_numbers_that_float64_holds() -> None:
    large = [2**53, 2**60, -(2**63), 10**22]
    assert _column(large[:3], pa.int64()).floats().to_pylist() == large[:3]
    assert _column([Decimal(v) for v in large], pa.decimal128(38, 0)).floats().to_pylist() == large
    assert _text(*map(str, large), "1e30", "0.1", "inf").floats().to_pylist() == [*large, 1e30, 0.1, math.inf]


def test_a_number_beyond_float64_is_refused() -> None:
    with pytest.raises(InvalidData, match="row 2: expected a number of float64's range, got '1e400'"):
        _text("inf", "1e400").floats()
