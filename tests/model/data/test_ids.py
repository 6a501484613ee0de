"""Ids as tables hold them: integers of every type, strings of every type, and what is refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from meshfold.model.data.ids import read_item_ids, read_unique_ids, read_user_ids
from meshfold.model.data.table_column import TableColumn
from meshfold.model.errors import InvalidData
from meshfold.model.item_ids import keys_of_strings
from meshfold.model.schema import IdKind


def _column(values: pa.Array, from_text: bool = False) -> TableColumn:
    return TableColumn("item", pa.chunked_array([values]), ((Path("items"), len(values)),), from_text)


def _csv(*cells: str | None) -> TableColumn:
    return _column(pa.array(cells, pa.string()), from_text=True)


@pytest.mark.parametrize(
    "column",
    [
        _csv("7", "-3", "0"),
        _csv("7.0", "-3.0", "0"),
        _column(pa.array([7, -3, 0], pa.int16())),
        _column(pa.array([7.0, -3.0, 0.0])),
    ],
)
def test_integers_are_their_own_keys(column: TableColumn) -> None:
    read = read_item_ids(column)
    assert (read.kind, read.names, read.keys.tolist()) == (IdKind.INTEGERS, None, [7, -3, 0])


NAMES = ["vid_2", "AE22", "vid_2", "é", "550e8400-e29b-41d4-a716-446655440000"]


@pytest.mark.parametrize(
    "column",
    [
        _csv(*NAMES),
        _column(pa.array(NAMES)),
        _column(pa.array(NAMES, pa.large_string())),
        _column(pa.array(NAMES).dictionary_encode()),
        _column(pa.array(["x", *NAMES])[1:]),
    ],
)
def test_strings_are_kept_and_hashed(column: TableColumn) -> None:
    read = read_item_ids(column)
    assert read.names is not None
    assert (read.kind, list(read.names)) == (IdKind.STRINGS, NAMES)
    assert read.keys.tolist() == keys_of_strings(NAMES).tolist()


@pytest.mark.parametrize(
    ("column", "names"),
    [
        (_csv("0001", "12"), ["0001", "12"]),
        (_csv("123456e1", "12345678"), ["123456e1", "12345678"]),
        (_csv("1e+16", "7"), ["1e+16", "7"]),
        (_csv("a1", "7"), ["a1", "7"]),
        (_column(pa.array(["1", "2"])), ["1", "2"]),
    ],
)
def test_what_is_taken_for_strings_without_a_word(column: TableColumn, names: list[str]) -> None:
    read = read_item_ids(column)
    assert read.names is not None
    assert list(read.names) == names


@pytest.mark.parametrize(
    "column",
    [
        _csv("7", "12"),
        _column(pa.array([7, 12])),
        _column(pa.array([7.0, 12.0])),
        _column(pa.array(["7", "12"])),
    ],
)
def test_declared_strings_are_the_digits_of_integers(column: TableColumn) -> None:
    read = read_item_ids(column, IdKind.STRINGS)
    assert read.names is not None
    assert list(read.names) == ["7", "12"]


@pytest.mark.parametrize(
    ("column", "declared", "message"),
    [
        (_csv("7", "x7"), None, "row 2: expected an int64 number, got 'x7'"),
        (_csv("7", "0007"), None, "row 2: expected an integer id, got '0007', which begins with zeros"),
        (
            _csv("12345678", "123456e1"),
            None,
            "row 2: expected an integer id, got '123456e1', which has an exponent; "
            r'where ids are strings, set ids = "strings" in \[items\], else write integers as plain digits',
        ),
        (_csv("7", "1E+5"), None, "row 2: .* '1E[+]5', which has an exponent"),
        (_csv("7", "1.5e3"), IdKind.INTEGERS, "row 2: .* '1.5e3', which has an exponent"),
        (_csv("1e5", "7"), IdKind.INTEGERS, "row 1: .* '1e5', which has an exponent"),
        (_csv("7", "5e0"), None, "row 2: .* '5e0', which has an exponent"),
        (_csv("7", "-9e-0"), None, "row 2: .* '-9e-0', which has an exponent"),
        (_csv("7", "0x1f"), None, "row 2: expected an int64 number, got '0x1f'"),
        (_csv("x", None), None, "row 2: the id is missing"),
        (_csv("7", None), None, "row 2: the id is missing"),
        (_csv("x", "y" * 513), None, "row 2: the id has 513 bytes; an id has at most 512"),
        (_column(pa.array(["x", None])), None, "row 2: the id is missing"),
        (_column(pa.array([1.5])), IdKind.STRINGS, "row 1"),
        (
            _column(pa.array(["7", "AE22"])),
            IdKind.INTEGERS,
            r'must hold integer ids, got string; convert the column, or set ids = "strings" in \[items\]',
        ),
        (_column(pa.array([[1]])), None, "must hold"),
    ],
)
def test_what_is_no_id_is_named(column: TableColumn, declared: IdKind | None, message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        read_item_ids(column, declared)


def test_users_may_have_any_value() -> None:
    assert read_user_ids(_csv("7", "-12")).tolist() == [7, -12]
    assert read_user_ids(_column(pa.array([7, 9], pa.uint8()))).tolist() == [7, 9]
    for names in (["AE22", "7"], ["7", "007"], ["7", "99999999999999999999"], ["7", "7.5"]):
        assert read_user_ids(_csv(*names)).tolist() == keys_of_strings(names).tolist()
    assert np.array_equal(read_user_ids(_column(pa.array(["AE22"]))), keys_of_strings(["AE22"]))
    with pytest.raises(InvalidData, match="row 1: the id is missing"):
        read_user_ids(_csv(None, "7"))


def test_users_written_as_whole_floats_are_integers() -> None:
    for cells in (["17", "17.0"], ["17.0", "17."], ["17.000", "17"]):
        assert read_user_ids(_csv(*cells)).tolist() == [17, 17]
    assert read_user_ids(_csv("-3.0", "0.0", "9007199254740991.0")).tolist() == [-3, 0, 2**53 - 1]
    # Files of a folder are one column: one writer made floats of the ids.
    parts = pa.chunked_array([pa.array(["17", "18"]), pa.array(["17.0", "19.0"])])
    folder = TableColumn("user", parts, ((Path("a.csv"), 2), (Path("b.csv"), 2)), from_text=True)
    assert read_user_ids(folder).tolist() == [17, 18, 17, 19]


@pytest.mark.parametrize(
    "names",
    [
        ["17.0", "AE22"],
        ["17.0", "17.5"],
        ["17.0", "017.0"],
        ["17.0", "1e5"],
        ["17.0", "17 "],
        ["17.0", "+17"],
        ["17", "17.0", "99999999999999999999"],
        ["17.0", "9999999999999999999"],
        ["123456e1", "12345678"],
    ],
)
def test_users_of_a_column_that_mixes_are_strings_as_they_are(names: list[str]) -> None:
    assert read_user_ids(_csv(*names)).tolist() == keys_of_strings(names).tolist()


def test_users_that_a_float_may_have_altered_are_refused() -> None:
    with pytest.raises(
        InvalidData, match="row 2: .* got '9007199254740992.0', written as a float; floats from"
    ):
        read_user_ids(_csv("17", "9007199254740992.0"))
    with pytest.raises(
        InvalidData, match="row 2: .* got '9007199254740992.0', written as a float; floats from"
    ):
        read_user_ids(_csv("99999999999999999", "9007199254740992.0"))


@pytest.mark.parametrize("cell", ["1.700000000000000000e+01", "1e+05", "1E+05", "1.7e1", "-1.7E+01"])
def test_users_written_as_floats_with_an_exponent_are_refused_among_numbers(cell: str) -> None:
    for cells in (["17", cell], ["17.0", cell, "1e+06"], ["18", cell]):
        with pytest.raises(
            InvalidData, match="row 2: expected an integer id, got .*, which has an exponent; write all"
        ):
            read_user_ids(_csv(*cells))
    assert read_user_ids(_csv("AE22", cell)).tolist() == keys_of_strings(["AE22", cell]).tolist()
    with pytest.raises(InvalidData, match="row 2: the id is missing"):
        read_user_ids(_csv(cell, None))


FILES = ((Path("a.csv"), 2), (Path("b.csv"), 3))


@pytest.mark.parametrize(
    ("values", "from_text", "message"),
    [
        (
            ["7", "8", "9", "7", "6"],
            True,
            "b.csv: column item, row 2: row 1 of a.csv has the id 7, too; an",
        ),
        (["7", "7.0", "9", "5", "6"], True, "a.csv: column item, row 2: row 1 of a.csv has the id 7, too"),
        (
            ["x", "y", "z", "y", "x"],
            True,
            "b.csv: column item, row 3: row 1 of a.csv has the id x, too; .*; 2 ids",
        ),
        (
            [7, 9, 8, 8, 9],
            False,
            "b.csv: column item, row 3: row 2 of a.csv has the id 9, too; .*; 2 ids occur more",
        ),
        (["7", "8", "9", "9", "9"], False, "b.csv: column item, row 2: row 1 of b.csv has the id 9, too"),
    ],
)
def test_an_id_that_comes_twice_is_named_with_both_rows(
    values: list[object], from_text: bool, message: str
) -> None:
    with pytest.raises(InvalidData, match=message):
        read_unique_ids(TableColumn("item", pa.chunked_array([pa.array(values)]), FILES, from_text))
