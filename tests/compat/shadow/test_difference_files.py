from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meshfold.compat.shadow.comparison import Cause, Difference
from meshfold.compat.shadow.difference_files import DifferenceWriter, read_differences
from meshfold.model.errors import InvalidData, NotDurable

SOME = {
    "a": (Difference(1 << 62, "mesh", 3, Cause.TIE), Difference(5, "model", 1, Cause.UNKNOWN)),
    "b": (Difference("é", "mesh", 1, Cause.MESH_ANN_MISS),),
}


def test_differences_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "differences.parquet"
    with DifferenceWriter(path) as writer:
        for request_id, differences in SOME.items():
            writer.append(request_id, differences)
        assert not path.exists()
    assert read_differences(path) == SOME
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    rows = pq.read_table(path).to_pylist()
    assert rows[2] == {
        "request_id": "b",
        "item_id": None,
        "item_key": "é",
        "missing_from": "mesh",
        "rank": 1,
        "cause": "mesh_ann_miss",
    }


def test_no_differences_are_a_file_without_rows(tmp_path: Path) -> None:
    with DifferenceWriter(tmp_path / "d.parquet"):
        pass
    assert read_differences(tmp_path / "d.parquet") == {}


def test_many_differences(tmp_path: Path) -> None:
    with DifferenceWriter(tmp_path / "d.parquet") as writer:
        for i in range(400):
            writer.append(f"r{i}", [Difference(rank, "model", rank, Cause.CAP) for rank in range(1, 101)])
    found = read_differences(tmp_path / "d.parquet")
    assert sum(map(len, found.values())) == 40_000


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    with suppress(KeyError), DifferenceWriter(path) as writer:
        writer.append("a", SOME["a"])
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    path.write_text("")
    with pytest.raises(NotDurable, match=r"d\.parquet/x cannot be written"), DifferenceWriter(path / "x"):
        pass


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(InvalidData, match="cannot be read"):
        read_differences(path)
    pq.write_table(pa.table({"request_id": ["a"]}), path)
    with pytest.raises(InvalidData, match="column item_id is missing"):
        read_differences(path)
    columns = {"request_id": ["a"], "item_id": [1], "item_key": pa.nulls(1), "rank": [1]}
    for side, cause, expected in (
        ("mesh", "weather", "is not a valid Cause"),
        ("us", "tie", "mesh or model, got 'us'"),
    ):
        pq.write_table(pa.table({**columns, "missing_from": [side], "cause": [cause]}), path)
        with pytest.raises(InvalidData, match=expected):
            read_differences(path)
