"""Ids as tables hold them: integers of every type, strings of every type, and what is refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from meshfold.model.data.ids import read_item_ids, read_user_ids
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
        (_csv("x", None), None, "row 2: the id is missing"),
        (_csv("7", None), None, "row 2: the id is missing"),
        (_csv("x", "y" * 513), None, "row 2: the id has 513 bytes; an id has at most 512"),
        (_column(pa.array(["x", None])), None, "row 2: the id is missing"),
        (_column(pa.array([1.5])), IdKind.STRINGS, "row 1"),
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
