from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meshfold.model.data.table_files import TableFiles
from meshfold.model.errors import InvalidData


def _csv(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _parquet(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_a_folder_is_one_table_in_the_order_of_names(tmp_path: Path) -> None:
    _csv(tmp_path / "b.csv", "name,id\nthree,3\n")
    _csv(tmp_path / "a.csv", "id,name\n1,one\n2,\n")
    _csv(tmp_path / "_SUCCESS.csv", "")
    read = TableFiles.open(tmp_path).read(["id", "name"])
    assert read["id"].ids().tolist() == [1, 2, 3]
    assert read["name"].strings().to_pylist() == ["one", None, "three"]


def test_rows_are_named_within_their_file(tmp_path: Path) -> None:
    _csv(tmp_path / "a.csv", "id\n1\n2\n")
    _csv(tmp_path / "b.csv", "id\n3\nx\n")
    with pytest.raises(InvalidData, match=r"b\.csv: column id, row 2: expected an int64 number, got 'x'"):
        TableFiles.open(tmp_path).read(["id"])["id"].ids()


def test_parquet_files_may_differ_in_width(tmp_path: Path) -> None:
    _parquet(tmp_path / "a.parquet", {"id": pa.array([1], pa.int32())})
    _parquet(tmp_path / "b.parquet", {"id": pa.array([2**40], pa.int64())})
    assert TableFiles.open(tmp_path).read(["id"])["id"].ids().tolist() == [1, 2**40]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_parts_may_have_no_rows_and_columns_in_any_order(tmp_path: Path, place: int) -> None:
    parts = ["id,name\n1,one\n2,\n", "name,id\nthree,3\n"]
    parts.insert(place, "name,id\n")
    for number, text in enumerate(parts):
        _csv(tmp_path / f"{number}.csv", text)
    read = TableFiles.open(tmp_path).read(["id", "name"])
    assert read["id"].ids().tolist() == [1, 2, 3]
    assert read["name"].strings().to_pylist() == ["one", None, "three"]


def test_cells_of_csv_are_strings_even_where_all_are_empty(tmp_path: Path) -> None:
    files = TableFiles.open(_csv(tmp_path / "a.csv", 'id,name\n1,\n2,""\n'))
    column = files.read(["name"])["name"]
    assert column.values.type == pa.large_string()
    assert (
        column.values.to_pylist()
        == column.integers().to_pylist()
        == column.floats().to_pylist()
        == [None, None]
    )


def test_a_stream_gives_all_rows_in_order(tmp_path: Path) -> None:
    _parquet(tmp_path / "a.parquet", {"v": list(range(5))})
    _parquet(tmp_path / "b.parquet", {"v": list(range(5, 7))})
    batches = [batch.to_pylist() for _, batch in TableFiles.open(tmp_path).stream("v", rows=2)]
    assert batches == [[0, 1], [2, 3], [4], [5, 6]]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "nothing is there"),
        ({"a.txt": "x"}, r"a\.txt: a folder of tables holds \.parquet or \.csv files only"),
        ({"a.csv": "id\n1\n", "b.parquet": ""}, "mixes Parquet and CSV"),
        ({"a.csv": "id\n1\n", "b.csv": "ident\n1\n"}, r"b\.csv: its columns differ"),
        ({"a.csv": "id,id\n1,2\n"}, "two columns have one name"),
        ({"a.csv": ""}, r"a\.csv: cannot be read: .*[Ee]mpty"),
        ({"a.csv": "id,v\n1\n"}, r"a\.csv: cannot be read: .*Expected 2 columns, got 1"),
        ({"a.parquet": "no parquet"}, r"a\.parquet: cannot be read"),
    ],
)
def test_files_that_cannot_be_a_table_are_refused(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    for name, text in files.items():
        _csv(tmp_path / name, text)
    with pytest.raises(InvalidData, match=message):
        TableFiles.open(tmp_path).read(["id"])


def test_a_missing_column_names_the_nearest(tmp_path: Path) -> None:
    files = TableFiles.open(_csv(tmp_path / "a.csv", "item_id,name\n1,x\n"))
    with pytest.raises(InvalidData, match="there is no column 'item'; did you mean 'item_id'"):
        files.read(["item"])


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_another_separator_than_the_comma_is_told(tmp_path: Path, separator: str) -> None:
    files = TableFiles.open(_csv(tmp_path / "a.csv", f"item_id{separator}name\n1{separator}x\n"))
    with pytest.raises(
        InvalidData, match="no column 'item_id'; the header holds .* and no comma: write CSV with"
    ):
        files.read(["item_id"])


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,name\n1,\xff\xfe\n")
    with pytest.raises(InvalidData, match=r"a\.csv: cannot be read: row 1: the text is not UTF-8"):
        TableFiles.open(tmp_path).read(["name"])


@pytest.mark.parametrize(("cell", "row"), [("", 2), ("1.5", 2), ("9223372036854775808", 2)])
def test_an_id_that_is_none_is_refused(tmp_path: Path, cell: str, row: int) -> None:
    files = TableFiles.open(_csv(tmp_path / "a.csv", f"id,v\n1,1\n{cell},1\n"))
    with pytest.raises(InvalidData, match=rf"a\.csv: column id, row {row}: "):
        files.read(["id"])["id"].ids()
