"""One thing by several writers: files whose columns have different Arrow types are one table."""

import uuid
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meshfold.model.data.encoding import encode_column, encode_text
from meshfold.model.data.table_column import TableColumn
from meshfold.model.data.table_files import TableFiles
from meshfold.model.data.times import times_of
from meshfold.model.errors import InvalidData
from meshfold.model.schema import FieldKind

STRINGS = (
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
    pa.binary(1),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int32(), pa.large_string()),
    pa.dictionary(pa.int32(), pa.binary()),
)
WHOLE = (
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float16(), pa.float32(), pa.float64()),
    *(pa.decimal32(5, 1), pa.decimal64(9, 0), pa.decimal128(38, 0), pa.decimal256(60, 3)),
    *(pa.dictionary(pa.int8(), pa.int64()),),
)
LISTS = (pa.list_, pa.large_list, partial(pa.list_, list_size=2), pa.list_view, pa.large_list_view)


def _read(folder: Path, parts: Sequence[pa.Array]) -> TableColumn:
    """The parts as files of one folder, each with its columns in another order."""
    for old in folder.glob("*.parquet"):
        old.unlink()
    for place, part in enumerate(parts):
        columns = {"c": part, "other": pa.array(range(len(part)))}
        names = sorted(columns, reverse=bool(place % 2))
        pq.write_table(pa.table({name: columns[name] for name in names}), folder / f"p{place:02}.parquet")
    return TableFiles.open(folder).read(["c"])["c"]


def _strings(column: TableColumn, kind: FieldKind = FieldKind.CATEGORY) -> list[list[str]]:
    encoded = encode_column(kind, column)
    assert encoded.vocabulary is not None
    words = [encoded.vocabulary[code] for code in encoded.values]
    return [words[a:b] for a, b in zip(encoded.offsets, encoded.offsets[1:], strict=False)]


def _integers(column: TableColumn, kind: FieldKind = FieldKind.INTEGER) -> list[list[int]]:
    encoded = encode_column(kind, column)
    values = encoded.values.tolist()
    return [values[a:b] for a, b in zip(encoded.offsets, encoded.offsets[1:], strict=False)]


def test_strings_of_every_type(tmp_path: Path) -> None:
    column = _read(tmp_path, [pa.array(["b", None, "a"], kind) for kind in STRINGS])
    assert _strings(column) == [["b"], [], ["a"]] * len(STRINGS)
    assert encode_text(column) == ["b", "", "a"] * len(STRINGS)


@pytest.mark.parametrize("lists", LISTS)
def test_lists_of_strings_of_every_type(tmp_path: Path, lists: Any) -> None:
    column = _read(tmp_path, [pa.array([["b", "a"], None, ["c", None]], lists(kind)) for kind in STRINGS])
    assert _strings(column, FieldKind.CATEGORIES) == [["a", "b"], [], ["c"]] * len(STRINGS)


@pytest.mark.parametrize("lists", LISTS)
def test_lists_of_dictionaries_in_several_row_groups(tmp_path: Path, lists: Any) -> None:
    rows = pa.array([["b", "a"], None, ["c", "b"]] * 4, lists(pa.dictionary(pa.int32(), pa.string())))
    pq.write_table(pa.table({"c": rows}), tmp_path / "p.parquet", row_group_size=2)
    column = TableFiles.open(tmp_path).read(["c"])["c"]
    assert _strings(column, FieldKind.CATEGORIES) == [["a", "b"], [], ["b", "c"]] * 4


def test_lists_of_every_kind(tmp_path: Path) -> None:
    column = _read(tmp_path, [pa.array([["b", "a"], None], lists(pa.string())) for lists in LISTS])
    assert _strings(column, FieldKind.CATEGORIES) == [["a", "b"], []] * len(LISTS)


def test_whole_numbers_of_every_type(tmp_path: Path) -> None:
    parts = [pa.array([_held(kind, 7), None], kind) for kind in WHOLE]
    column = _read(tmp_path, parts)
    assert _integers(column) == [[7], []] * len(WHOLE)
    for place, part in enumerate(parts):
        (tmp_path / str(place)).mkdir()
        alone = _read(tmp_path / str(place), [part])
        assert (_integers(alone), alone.floats().to_pylist()) == ([[7], []], [7.0, None])


def test_lists_of_whole_numbers_of_every_type(tmp_path: Path) -> None:
    kinds = [kind for kind in WHOLE if not pa.types.is_dictionary(kind)]
    column = _read(tmp_path, [pa.array([[_held(kind, 7)], []], pa.list_(kind)) for kind in kinds])
    assert _integers(column, FieldKind.INTEGERS) == [[7], []] * len(kinds)


def _held(kind: pa.DataType, value: int) -> Any:
    if pa.types.is_decimal(kind):
        return Decimal(value)
    return np.float16(value) if pa.types.is_float16(kind) else value


def test_numbers_keep_their_values(tmp_path: Path) -> None:
    parts = [pa.array([0.1]), pa.array([0.5], pa.float32()), pa.array([2**53], pa.int64()), pa.array([True])]
    assert _read(tmp_path, parts).floats().to_pylist() == [0.1, 0.5, 2.0**53, 1.0]


def test_large_integers_beside_floats_stay_exact(tmp_path: Path) -> None:
    parts = [pa.array([2**63 - 1]), pa.array([3.0, None]), pa.array([4], pa.uint64())]
    assert _integers(_read(tmp_path, parts)) == [[2**63 - 1], [3], [], [4]]


def test_bools_and_dates_beside_strings(tmp_path: Path) -> None:
    parts = [pa.array(["no"]), pa.array([True, None]), pa.array([date(2024, 12, 31)])]
    assert _strings(_read(tmp_path, parts)) == [["no"], ["true"], [], ["2024-12-31"]]


def test_dates_beside_timestamps(tmp_path: Path) -> None:
    parts = [
        pa.array([date(1970, 1, 2)]),
        pa.array([date(1970, 1, 3)], pa.date64()),
        pa.array([datetime(1970, 1, 1, 0, 0, 1)], pa.timestamp("s")),
        pa.array([10**9 * 5], pa.timestamp("ns", "UTC")),
        pa.array([6000], pa.timestamp("ms", "Europe/Paris")),
    ]
    assert times_of(_read(tmp_path, parts)).tolist() == [86_400, 172_800, 1, 5, 6]


EMPTY = (pa.null(), pa.string(), pa.float64(), pa.list_(pa.null()), pa.dictionary(pa.int8(), pa.string()))


@pytest.mark.parametrize("nulls", [0, 2])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_parts_without_any_value_fit_every_type(tmp_path: Path, nulls: int, place: int) -> None:
    given: tuple[list[Any], ...] = (["a"], [5], [1.5], [["a"]], [[5]], [True], [date(2024, 1, 1)])
    for number, values in enumerate(given):
        for kind in EMPTY:
            folder = tmp_path / f"{number} {EMPTY.index(kind)}"
            folder.mkdir()
            parts = [pa.array(values), pa.array(values)]
            parts.insert(place, pa.nulls(nulls, kind))
            column = _read(folder, parts)
            rows = [values[0]] * 2
            rows[place:place] = [None] * nulls
            assert column.values.to_pylist() == rows


@pytest.mark.parametrize("kind", EMPTY)
def test_a_column_without_any_value_fits_every_kind(tmp_path: Path, kind: pa.DataType) -> None:
    column = _read(tmp_path, [pa.nulls(2, kind), pa.nulls(0, kind)])
    for field in FieldKind:
        if field is not FieldKind.TEXT:
            assert encode_column(field, column).offsets.tolist() == [0, 0, 0]
    assert encode_text(column) == ["", ""]


def test_nan_is_missing(tmp_path: Path) -> None:
    nan = float("nan")
    parts = [pa.array([nan, 1.0]), pa.array([nan], pa.float32()), pa.array([2])]
    assert _integers(_read(tmp_path, parts)) == [[], [1], [], [2]]
    lists = [pa.array([[nan, 1.0]]), pa.array([[2]])]
    assert _integers(_read(tmp_path, lists), FieldKind.INTEGERS) == [[1], [2]]


@pytest.mark.parametrize("kind", STRINGS[:6])
def test_empty_strings_are_missing(tmp_path: Path, kind: pa.DataType) -> None:
    column = _read(tmp_path, [pa.array(["", "a", None], kind)])
    assert _strings(column) == [[], ["a"], []]
    assert column.values.null_count == 2
    lists = _read(tmp_path, [pa.array([[""], ["x", ""], []], pa.list_(kind))])
    assert _strings(lists, FieldKind.CATEGORIES) == [[], ["x"], []]
    joined = _read(tmp_path, [pa.array(["", "|", "x||y", None], kind)])
    encoded = encode_column(FieldKind.CATEGORIES, joined, "|")
    assert (encoded.vocabulary, encoded.offsets.tolist()) == (("x", "y"), [0, 0, 0, 2, 2])


def test_extension_types_are_what_they_are_stored_as(tmp_path: Path) -> None:
    ids = [uuid.UUID(int=5), uuid.UUID(int=2**127)]
    stored = pa.array([one.bytes for one in ids], pa.binary(16))
    column = _read(tmp_path, [pa.ExtensionArray.from_storage(pa.uuid(), stored), pa.array(["x"])])
    assert column.strings().to_pylist() == [*map(str, ids), "x"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            [pa.array(["a"]), pa.array([None, 5])],
            "p01.parquet: column c, row 2: expected string as in the files before, got 5 of type int64",
        ),
        (
            [pa.array([["a"]]), pa.array(["a"])],
            r"p01.parquet: column c, row 1: expected list<string> as in the files before, got 'a' of type string",
        ),
        (
            [pa.array([["a"]]), pa.array([[], [5]], pa.list_(pa.int8()))],
            "p01.parquet: column c, row 2: expected string as in the files before, got 5 of type int8",
        ),
        ([pa.array([5]), pa.array([date(2024, 1, 1)])], "p01.parquet: column c, row 1: expected int64"),
        (
            [pa.array(["a"]), pa.array([b"a", b"\xff"])],
            r"p01.parquet: column c, row 2: expected UTF-8 text, got b'\\xff'",
        ),
        (
            [pa.array([["a"]]), pa.array([[], [b"a", b"\xff"]], pa.list_(pa.binary()))],
            r"p01.parquet: column c, row 2: expected UTF-8 text",
        ),
        (
            [pa.array([0.5]), pa.array([1, 2**53 + 1])],
            "p01.parquet: column c, row 2: got 9007199254740993, which no float64 holds exactly",
        ),
        (
            [pa.array([2**53 + 1]), pa.array([1.0, 2.0**53])],
            "p01.parquet: column c, row 2: .* got 9007199254740992.0, written as a float",
        ),
        ([pa.array(["a"]), pa.array([{"x": 1}])], "p01.parquet: column c, row 1: expected string"),
    ],
)
def test_parts_that_mean_different_things_are_refused(
    tmp_path: Path, parts: list[pa.Array], message: str
) -> None:
    with pytest.raises(InvalidData, match=message):
        _read(tmp_path, parts)


def test_a_column_of_another_type_is_named_by_its_first_value(tmp_path: Path) -> None:
    column = _read(tmp_path, [pa.array([None], pa.int64()), pa.array([None, 5])])
    with pytest.raises(
        InvalidData, match=r"p01\.parquet: column c must hold strings, got int64; .* \(row 2: 5\)"
    ):
        column.strings()


def test_floats_narrower_than_ids(tmp_path: Path) -> None:
    """A float32 beyond 2**24 may have been another id, whatever lies in other files."""
    for parts in ([pa.array([2.0**24], pa.float32())], [pa.array([1]), pa.array([2.0**24], pa.float32())]):
        with pytest.raises(InvalidData, match="16777216.0, written as a float; floats from 16777216 on"):
            _read(tmp_path, parts).ids()
    assert _read(tmp_path, [pa.array([1]), pa.array([2.0**24 - 1], pa.float32())]).ids().tolist() == [
        1,
        2**24 - 1,
    ]
