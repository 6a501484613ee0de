"""docs/data.md says what the code does."""

import dataclasses
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from meshfold.model.data.catalog import numbers_of_keys
from meshfold.model.data.encoding import encode_column
from meshfold.model.data.ids import read_item_ids, read_user_ids
from meshfold.model.data.joins import UNKNOWN_SHARE
from meshfold.model.data.movielens_files import find_movielens
from meshfold.model.data.schema_file import InteractionsTable, ItemsTable, SchemaFile
from meshfold.model.data.selection import select_rows
from meshfold.model.data.table_column import TableColumn
from meshfold.model.data.times import MAX_STEP, times_of
from meshfold.model.errors import InvalidData
from meshfold.model.filter.text import parse_filter
from meshfold.model.schema import FieldKind, IdKind, InputKind

PAGE = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def test_the_schema_file_of_the_page_is_read(tmp_path: Path) -> None:
    (tmp_path / "schema.toml").write_text(EXAMPLE, encoding="utf-8")
    read = SchemaFile.read(tmp_path / "schema.toml")
    assert (read.schema.surface, len(read.fields), len(read.tasks)) == ("shop", 4, 2)
    assert read.value is not None
    assert read.interactions is not None
    assert read.interactions.unknown_share == UNKNOWN_SHARE


@pytest.mark.parametrize("table", [ItemsTable, InteractionsTable])
def test_every_key_is_on_the_page(table: type) -> None:
    for field in dataclasses.fields(table):
        assert re.search(rf"^{field.name} = ", EXAMPLE, re.MULTILINE), field.name


def test_every_kind_is_on_the_page() -> None:
    for kind in FieldKind:
        assert f"| `{kind}` |" in PAGE
    for feature in InputKind:
        assert feature.value in EXAMPLE


def test_every_file_of_movielens_that_is_read_is_on_the_page(tmp_path: Path) -> None:
    read = set(re.findall(r"`([a-z]+\.[a-z]+)`", PAGE.split("## MovieLens")[1].split("The surface is")[0]))
    for movies, ratings in (
        ("movies.csv", "ratings.csv"),
        ("movies.dat", "ratings.dat"),
        ("u.item", "u.data"),
    ):
        folder = tmp_path / movies
        folder.mkdir()
        for name in (movies, ratings):
            (folder / name).touch()
        found = find_movielens(folder)
        assert found is not None
        assert {movies, ratings, found.tags_file} - {""} <= read


def test_the_times_of_the_page_are_read() -> None:
    table = PAGE.split("## Times")[1].split("Texts may be")[0]
    examples = re.findall(r"`([^`]+)`", table)
    assert len(examples) >= 12
    for text in examples:
        column = TableColumn(
            "t", pa.chunked_array([[text]], pa.string()), ((Path("page"), 1),), from_text=True
        )
        (seconds,) = times_of(column).tolist()
        assert datetime.fromtimestamp(seconds, UTC).year == 2020, text


def _csv(*cells: str) -> TableColumn:
    return TableColumn("c", pa.chunked_array([cells]), ((Path("page"), len(cells)),), from_text=True)


def test_the_ids_of_the_page_are_what_it_says() -> None:
    section = PAGE.split("## Items and their ids")[1].split("## Fields")[0]
    integers, strings = ("17", "17.0"), ("AE22", "0017", "12e5")
    for text in (*integers, *strings):
        assert f"`{text}`" in section
    assert {read_item_ids(_csv(text)).kind for text in integers} == {IdKind.INTEGERS}
    assert {read_item_ids(_csv(text)).kind for text in strings} == {IdKind.STRINGS}
    for text in ("0017", "12e5"):
        with pytest.raises(InvalidData, match="expected an integer id"):
            read_item_ids(_csv("17", text))
    assert len(set(read_user_ids(_csv(*integers)).tolist())) == 1


def test_a_float32_is_compared_as_the_page_says() -> None:
    assert "does not pass `<= 0.1`" in PAGE
    for kind, passes in ((pa.float32(), False), (pa.float64(), True), (pa.decimal128(2, 1), True)):
        values = pa.array([Decimal("0.1")] if pa.types.is_decimal(kind) else [0.1], kind)
        column = TableColumn("c", pa.chunked_array([values]), ((Path("page"), 1),), from_text=False)
        assert select_rows(parse_filter("c <= 0.1"), {"c": column}, 1).tolist() == [passes]
        (number,) = numbers_of_keys(encode_column(FieldKind.NUMBER, column).values).tolist()
        assert (number <= 0.1) == passes


def test_the_counter_of_the_page_is_the_code_s() -> None:
    assert MAX_STEP == 10
    assert "is more than ten times as large" in PAGE
