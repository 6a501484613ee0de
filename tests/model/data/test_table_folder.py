import os
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meshfold.model.data.encoding import encode_column
from meshfold.model.data.table_files import TableFiles
from meshfold.model.errors import InvalidData
from meshfold.model.schema import FieldKind


def _parquet(path: Path, item: int, **more: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": [item], **{name: [value] for name, value in more.items()}}), path)


def _csv(path: Path, item: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"id,v\n{item},x\n")


def _ids(path: Path) -> list[int]:
    ids: list[int] = TableFiles.open(path).read(["id"])["id"].ids().tolist()
    return ids


def test_every_name_of_a_parquet_file_is_read(tmp_path: Path) -> None:
    names = (
        "a.parquet",
        "b.PARQUET",
        "c.parq",
        "d.pq",
        "e.Pq",
        "f.snappy.parquet",
        "2024/10/a.parquet",
        "2024/a.parq",
    )
    for item, name in enumerate(sorted(names)):
        _parquet(tmp_path / name, item)
    assert _ids(tmp_path) == list(range(len(names)))


def test_every_name_of_a_csv_file_is_read(tmp_path: Path) -> None:
    for item, name in enumerate(("2024/x.csv", "a.csv", "b.CSV", "c.csv.gz", "d.Csv.Zst")):
        _csv(tmp_path / name, item)
    assert _ids(tmp_path) == [0, 1, 2, 3, 4]


def test_names_that_begin_with_a_dot_or_an_underscore_are_passed_over(tmp_path: Path) -> None:
    _parquet(tmp_path / "a.parquet", 1)
    for name in (
        "_SUCCESS",
        "_metadata",
        "_temporary/0/b.parquet",
        "_temporary/_y=1/b.parquet",
        "_old=2024.parquet",
        ".a.parquet.crc",
        ".cache/c.parquet",
        ".y=1/c.parquet",
    ):
        _parquet(tmp_path / name, 2)
    assert _ids(tmp_path) == [1]
    _parquet(tmp_path / "deep" / "_day=1" / "b.parquet", 3)
    with pytest.raises(InvalidData, match="its columns differ from those of .*: it has '_day'"):
        _ids(tmp_path)


def test_a_partition_of_a_column_whose_name_begins_with_an_underscore_is_data(tmp_path: Path) -> None:
    for year in (2024, 2025):
        _parquet(tmp_path / f"_y={year}" / "a.parquet", year)
        _parquet(tmp_path / f"_y={year}" / "_temporary" / "b.parquet", 1)
    read = TableFiles.open(tmp_path).read(["id", "_y"])
    assert read["_y"].integers().to_pylist() == read["id"].ids().tolist() == [2024, 2025]


@pytest.mark.parametrize(
    "name", ["b.tsv", "b.parquet.gz", "b.json", "b.parquet.tmp", "b", "b.csv.bak", "2024/b.txt", "b.PARQUETS"]
)
def test_other_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    _parquet(tmp_path / "a.parquet", 1)
    _parquet(tmp_path / name, 2)
    with pytest.raises(InvalidData, match=rf"{name}: a folder of tables holds .* move this file away"):
        _ids(tmp_path)


@pytest.mark.parametrize("other", ["b.csv", "2024/b.csv.gz", "z=1/b.CSV"])
def test_mixed_formats_are_refused(tmp_path: Path, other: str) -> None:
    _parquet(tmp_path / "c.parquet", 1)
    _csv(tmp_path / other, 2)
    with pytest.raises(InvalidData, match=rf"mixes Parquet and CSV: .*{other}.*; keep one of them"):
        _ids(tmp_path)


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_folder_names_give_columns(tmp_path: Path, form: str) -> None:
    values = ["Comedy", "Science Fiction", "a/b", "50%", "é=1", "__HIVE_DEFAULT_PARTITION__", "2024", ""]
    for item, value in enumerate(values):
        place = tmp_path / f"genre={quote(value, safe=' ')}" / "year=1995" / f"p0.{form}"
        _parquet(place, item, v=1) if form == "parquet" else _csv(place, item)
    read = TableFiles.open(tmp_path).read(["id", "genre", "year"])
    found = dict(zip(read["id"].ids().tolist(), read["genre"].strings().to_pylist(), strict=True))
    assert found == {i: None if v in ("", "__HIVE_DEFAULT_PARTITION__") else v for i, v in enumerate(values)}
    assert set(encode_column(FieldKind.INTEGER, read["year"]).values.tolist()) == {1995}
    assert encode_column(FieldKind.CATEGORY, read["year"]).vocabulary == ("1995",)
    alone = TableFiles.open(tmp_path).read(["genre"])["genre"]
    assert sorted(filter(None, alone.values.to_pylist())) == sorted(filter(None, found.values()))
    inside = TableFiles.open(tmp_path / "genre=Comedy").read(["year"])["year"]
    assert inside.integers().to_pylist() == [1995]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["g=1/a.parquet", "a.parquet"], "g=1/a.parquet: its columns differ from those of .*: it has 'g'"),
        (
            ["g=1/a.parquet", "h=1/a.parquet"],
            "its columns differ from those of .*: it has 'h' and it lacks 'g'",
        ),
        (["g=1/g=2/a.parquet"], "two columns have one name, 'g'"),
        (["id=1/a.parquet"], "two columns have one name, 'id'"),
        (["=1/a.parquet"], "expected a folder name such as column=value"),
        (["g=%ff/a.parquet"], "decodes to bytes that are not UTF-8"),
    ],
)
def test_folder_names_that_do_not_fit_are_refused(tmp_path: Path, files: list[str], message: str) -> None:
    for item, name in enumerate(files):
        _parquet(tmp_path / name, item)
    with pytest.raises(InvalidData, match=message):
        _ids(tmp_path)


def test_links(tmp_path: Path) -> None:
    _parquet(tmp_path / "elsewhere" / "a.parquet", 1)
    table = tmp_path / "table"
    table.mkdir()
    (table / "linked").symlink_to(tmp_path / "elsewhere")
    (table / "b.parquet").symlink_to(tmp_path / "elsewhere" / "a.parquet")
    assert _ids(table) == [1, 1]
    (table / "again").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidData, match="linked: is the same folder as .*again; remove the link"):
        _ids(table)
    (table / "again").unlink()
    (tmp_path / "elsewhere" / "loop").symlink_to(table)
    with pytest.raises(InvalidData, match="loop: is the same folder as .*table; remove the link"):
        _ids(table)
    (tmp_path / "elsewhere" / "loop").unlink()
    (table / "c.parquet").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InvalidData, match=r"c\.parquet: .* got a link to nothing or a special file"):
        _ids(table)


@pytest.mark.parametrize("log", ["_delta_log", ".hoodie"])
def test_tables_whose_files_do_not_all_count_are_refused(tmp_path: Path, log: str) -> None:
    _parquet(tmp_path / "a.parquet", 1)
    (tmp_path / log).mkdir()
    with pytest.raises(InvalidData, match="whose log lists the current files; export it as plain Parquet"):
        _ids(tmp_path)


def test_what_is_neither_file_nor_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.parquet")
    with pytest.raises(InvalidData, match="a folder of them, got neither"):
        _ids(tmp_path / "a.parquet")
    with pytest.raises(InvalidData, match="got a link to nothing or a special file"):
        _ids(tmp_path)
    with pytest.raises(InvalidData, match="nothing is there"):
        _ids(tmp_path / "b.parquet")
    (tmp_path / "b.dat").touch()
    with pytest.raises(InvalidData, match=r"b\.dat: expected a .parquet or .csv file, got .dat"):
        _ids(tmp_path / "b.dat")
