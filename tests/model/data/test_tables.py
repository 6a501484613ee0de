from pathlib import Path
from shutil import copytree

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from meshfold.model.data.catalog import numbers_of_keys
from meshfold.model.data.tables import TableSource
from meshfold.model.errors import InvalidData


@pytest.fixture
def shop(tiny_shop: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(copytree(tiny_shop, tmp_path / "shop")) / "schema.toml"


def _read_all(path: Path) -> None:
    source = TableSource(path)
    source.interactions()
    source.catalog()


def _change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_every_kind_of_field(tiny_shop: Path) -> None:
    source = TableSource(tiny_shop / "schema.toml")
    catalog = source.catalog()
    assert (source.schema.surface, source.schema.exclude_history, source.has_vectors) == (
        "shop",
        False,
        False,
    )
    assert catalog.item_ids.tolist() == [30, 10, 20, 40]
    assert catalog.texts["name"] == ["Mug, large", "Bowl", "Tray\nin two lines", ""]
    rows = {}
    for name, column in catalog.columns.items():
        parts = np.split(column.values, column.offsets[1:-1])
        words = column.vocabulary
        rows[name] = [[words[v] for v in part] if words else part.tolist() for part in parts]
    assert rows["colour"] == [["red"], [], ["blue"], ["red"]]
    assert rows["materials"] == [["clay", "glaze"], ["clay"], ["cork", "wood"], []]
    assert rows["year"] == [[2020], [2018], [], [2020]]
    assert rows["sizes"] == [[], [18, 20], [40], [18]]
    prices = catalog.columns["price"]
    assert prices.offsets.tolist() == [0, 1, 2, 3, 3]
    assert numbers_of_keys(prices.values).tolist() == [8.5, 0.0, 29.9]
    assert catalog.popularity.tolist() == [12.0, 0.0, 3.0, 7.5]


def test_interactions_and_tasks(tiny_shop: Path) -> None:
    interactions = TableSource(tiny_shop / "schema.toml").interactions()
    assert interactions is not None
    assert interactions.history(1).tolist() == [77, 20, 10]
    assert interactions.history(2).tolist() == [20, 30]
    assert interactions.tasks["view"].tolist() == [True] * 5
    assert interactions.tasks["buy"].tolist() == [True, False, True, False, False]


def test_popularity_is_counted_where_no_column_is_named(shop: Path) -> None:
    _change(shop, 'popularity = "sales"', "")
    assert TableSource(shop).catalog().popularity.tolist() == [1.0, 1.0, 2.0, 0.0]


def test_interactions_may_be_missing(shop: Path) -> None:
    text = shop.read_text()
    shop.write_text(text[: text.index("[interactions]")] + "[tasks.view]")
    _change(shop, 'popularity = "sales"', "")
    source = TableSource(shop)
    assert source.interactions() is None
    assert source.catalog().popularity.tolist() == [0.0] * 4


def test_parquet_gives_what_csv_gives(shop: Path) -> None:
    expected = TableSource(shop).catalog()
    options = pa.csv.ParseOptions(newlines_in_values=True)
    convert = pa.csv.ConvertOptions(strings_can_be_null=True)
    table = pa.csv.read_csv(shop.parent / "items.csv", parse_options=options, convert_options=convert)
    sizes = pa.array([None, [20, 18, 20], [40], [18]], pa.large_list(pa.int16()))
    vectors = pa.array([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0], [-1.0, 0.5]])
    table = table.set_column(table.schema.get_field_index("sizes"), "sizes", sizes)
    pq.write_table(table.append_column("vector", vectors), shop.parent / "items.parquet")
    _change(shop, "items.csv", "items.parquet")
    _change(shop, 'kind = "integers"\nseparator = ";"', 'kind = "integers"')
    _change(shop, 'id = "item_id"', 'id = "item_id"\nvector = "vector"')
    source = TableSource(shop)
    catalog = source.catalog()
    assert source.has_vectors
    assert catalog.texts == expected.texts
    for name, column in expected.columns.items():
        assert catalog.columns[name].vocabulary == column.vocabulary
        np.testing.assert_array_equal(catalog.columns[name].offsets, column.offsets)
        np.testing.assert_array_equal(catalog.columns[name].values, column.values)
    assert np.concatenate(list(catalog.vectors())).tolist() == vectors.to_pylist()
    assert catalog.dimension == 2


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("schema.toml", '"items.csv"', '"item.csv"', r"item\.csv: expected .* nothing is there"),
        ("schema.toml", '"sales"', '"sale"', r"items\.csv: there is no column 'sale'; did you mean 'sales'"),
        ("schema.toml", '"price_eur"', '"price"', r"no column 'price'; did you mean 'price_eur'"),
        ("schema.toml", "amount >=", "amounts >=", r"events\.csv: there is no column 'amounts'"),
        ("schema.toml", "amount >=", "kind >=", r"events\.csv: column kind, row 1: expected a number"),
        (
            "schema.toml",
            'separator = ";"',
            "",
            r"column sizes must hold lists, got string; set the field's sep",
        ),
        ("schema.toml", 'id = "item_id"', 'id = "item_id"\nvector = "sales"', r"in Parquet, got CSV"),
        ("items.csv", "30,", ",", r"items\.csv: column item_id, row 1: the id is missing"),
        ("items.csv", "30,", "10,", r"column item_id, row 2: row 1 has the id 10, too; an item has"),
        (
            "items.csv",
            "2018",
            "2018.5",
            r"items\.csv: column year, row 2: expected an int64 number, got '2018.5'",
        ),
        ("items.csv", ",29.9", ",cheap", r"column price_eur, row 3: expected a number, got 'cheap'"),
        ("items.csv", "20;18", "20;big", r"column sizes, row 2: expected an int64 number, got 'big'"),
        ("items.csv", ",7.5", ",-7.5", r"column sales, row 4: popularity must be finite and at least 0"),
        ("items.csv", ",7.5", ",inf", r"column sales, row 4: popularity must be finite"),
        ("events.csv", "2,30", ",30", r"events\.csv: column user, row 1: the id is missing"),
        ("events.csv", "2,30", "2,x30", r"column item_id, row 1: expected an int64 number, got 'x30'"),
    ],
)
def test_bad_data_is_named(shop: Path, file: str, old: str, new: str, message: str) -> None:
    _change(shop.parent / file, old, new)
    with pytest.raises(InvalidData, match=message):
        _read_all(shop)


def test_users_of_files_written_differently_are_the_same(shop: Path) -> None:
    events = shop.parent / "events.csv"
    header, *rows = events.read_text().splitlines()
    place = header.split(",").index("user")
    (shop.parent / "events").mkdir()
    floats = [
        ",".join([*cells[:place], f"{cells[place]}.0", *cells[place + 1 :]])
        for cells in (r.split(",") for r in rows)
    ]
    for name, held in (("a.csv", rows), ("b.csv", floats)):
        (shop.parent / "events" / name).write_text("\n".join([header, *held]) + "\n")
    expected = TableSource(shop).interactions()
    _change(shop, "events.csv", "events")
    read = TableSource(shop).interactions()
    assert expected is not None
    assert read is not None
    assert np.array_equal(read.user_ids, np.repeat(expected.user_ids, 2))


def test_a_doubled_item_of_two_files_is_named_with_both(shop: Path) -> None:
    items = shop.parent / "items.csv"
    (shop.parent / "items").mkdir()
    for name in ("a.csv", "b.csv"):
        (shop.parent / "items" / name).write_text(items.read_text())
    _change(shop, "items.csv", "items")
    with pytest.raises(
        InvalidData, match=r"b\.csv: column item_id, row 1: row 1 of .*a\.csv has the id 30, too; .* 4 ids"
    ):
        TableSource(shop).interactions()


def test_a_catalog_without_items_is_refused(shop: Path) -> None:
    items = shop.parent / "items.csv"
    items.write_text(items.read_text().split("\n")[0] + "\n")
    with pytest.raises(InvalidData, match=r"items\.csv: holds no row; surface shop has no items"):
        TableSource(shop).catalog()
