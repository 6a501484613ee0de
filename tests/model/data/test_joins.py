"""Interactions with items that the catalog lacks: counted, named, and refused where they are too many."""

from pathlib import Path

import numpy as np
import pytest

from meshfold.model.data.joins import check_join
from meshfold.model.data.tables import TableSource
from meshfold.model.errors import InvalidData

SCHEMA = """
surface = "shop"
[items]
source = "items.csv"
id = "id"
[interactions]
source = "events.csv"
user = "user"
item = "item"
time = "time"
[tasks.view]
"""


def _source(folder: Path, items: list[str], met: list[str], more: str = "") -> TableSource:
    (folder / "items.csv").write_text("id\n" + "".join(f"{i}\n" for i in items))
    rows = "".join(f"1,{i},{t}\n" for t, i in enumerate(met))
    (folder / "events.csv").write_text("user,item,time\n" + rows)
    (folder / "schema.toml").write_text(SCHEMA.replace("[tasks", more + "\n[tasks"))
    return TableSource(folder / "schema.toml")


def test_unknown_items_are_counted_and_the_first_five_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    met = ["1", "2", "3", "1", "2", "3", "1", "90", "80", "90", "70", "60", "50", "40"]
    interactions = _source(tmp_path, ["1", "2", "3"], met).interactions()
    assert interactions is not None
    assert len(interactions) == 14
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/events.csv: 7 of 14 interactions are with items that the catalog lacks, "
        "6 in all: 90, 80, 70, 60, 50, ...; they are left out"
    ]


def test_known_items_are_not_worth_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _source(tmp_path, ["a", "b"], ["b", "a", "b"]).interactions()
    assert not caplog.records


@pytest.mark.parametrize(
    ("items", "met", "message"),
    [
        (
            ["1", "2"],
            ["1", "11", "12"],
            "2 of 3 interactions are with items that the catalog lacks, 2 in all: 11, 12",
        ),
        (["AE1", "AE2"], ["ae1", "ae2"], "the catalog has ids such as AE1, AE2"),
        (["AE1", "AE2"], ["1", "2"], "the catalog has ids such as AE1, AE2"),
        (["0001", "0002"], ["1", "2"], "lacks, 2 in all: 1, 2; the catalog has ids such as 0001, 0002"),
        (["1", "2"], ["0001", "0002"], "row 1: expected an integer id, got '0001', which begins with zeros"),
        (["1", "2"], ["AE1", "AE2"], "row 1: expected an int64 number, got 'AE1'"),
    ],
)
def test_ids_of_another_space_are_refused(
    tmp_path: Path, items: list[str], met: list[str], message: str
) -> None:
    with pytest.raises(InvalidData, match=message):
        _source(tmp_path, items, met).interactions()


def test_the_schema_sets_the_share_that_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="More than 10% unknown items"):
        _source(tmp_path, ["1"], ["1", "1", "1", "2"], "unknown_share = 0.1").interactions()
    _source(tmp_path, ["1"], ["1", "2", "3", "4"], "unknown_share = 0.8").interactions()
    with pytest.raises(InvalidData, match=r"interactions\.unknown_share must be a number from 0 to 1, got 2"):
        _source(tmp_path, ["1"], ["1"], "unknown_share = 2")


def test_no_interactions_lack_nothing() -> None:
    check_join(Path("x"), np.empty(0, np.int64), np.empty(0, np.int64), np.array([1]), np.array([1]))
