from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meshfold.compat.hydration.file_table import FileTable
from meshfold.model.errors import InvalidData
from meshfold.model.types import User


def table(folder: Path, row_group: int = 1 << 20, **columns: Any) -> FileTable:
    path = folder / "users.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=row_group)
    made = FileTable(path, lambda name: name != "unwanted", folder)
    # The mapped copy has no name.
    assert [p.name for p in folder.iterdir()] == ["users.parquet"]
    return made


def test_every_user_is_found_across_row_groups(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = rng.permutation(np.arange(-5000, 15000) * 7)
    histories = [rng.integers(0, 1 << 40, rng.integers(0, 4)).tolist() for _ in ids]
    made = table(
        tmp_path,
        row_group=3001,
        user_id=ids,
        history=pa.array(histories, pa.list_(pa.int64())),
        age=pa.array([None if i % 3 else i for i in range(len(ids))], pa.int32()),
        unwanted=["x"] * len(ids),
    )
    assert len(made) == len(ids)
    for place in [*range(0, len(ids), 97), 3000, 3001, 8191, 8192, len(ids) - 1]:
        user = made.user(int(ids[place]))
        assert isinstance(user, User)
        assert list(user.history) == histories[place]
        assert {k: v.tolist() for k, v in user.features.items()} == ({} if place % 3 else {"age": [place]})  # type: ignore[union-attr]
    for unknown in (1, -35001, 105000, "7"):
        assert made.user(unknown) is None


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_keys_and_histories_may_be_strings(tmp_path: Path, kind: pa.DataType) -> None:
    keys = ["b", "a", "\U0001f600", "\uffff", ""]
    made = table(
        tmp_path,
        user_key=pa.array(keys, pa.string()).cast(kind),
        history=pa.array([["x", "y"], [], None, ["z"], ["w"]], pa.list_(pa.string())),
        country=pa.array(["de", None, "fr", "", "es"], pa.string()).cast(kind),
        tags=pa.array([["p"], ["q", "r"], None, [], ["s"]], pa.list_(pa.string())),
    )
    found = [made.user(key) for key in keys]
    assert [user.history if user and len(user.history) else () for user in found] == [
        ("x", "y"),
        (),
        (),
        ("z",),
        ("w",),
    ]
    assert found[0] is not None
    assert found[0].features == {"country": ("de",), "tags": ("p",)}
    assert found[1] is not None
    assert found[1].features == {"tags": ("q", "r")}
    assert made.user("c") is None
    assert made.user(5) is None


def test_a_file_without_users_is_one(tmp_path: Path) -> None:
    made = table(tmp_path, user_id=pa.array([], pa.int64()), age=pa.array([], pa.int64()))
    assert len(made) == 0
    assert made.user(5) is None


HISTORY = pa.array([[1], [2]], pa.list_(pa.int64()))


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"history": HISTORY}, "must have one column user_id or user_key; it has history"),
        ({"user_id": [1, 2], "user_key": ["a", "b"], "history": HISTORY}, "must have one column"),
        ({"user_id": [1, 2]}, "has no history and no feature that is wanted"),
        ({"user_id": ["a", "b"], "history": HISTORY}, "user_id must hold int64, got string"),
        ({"user_id": [1, None], "history": HISTORY}, "row 1 has no user_id"),
        ({"user_id": [5, 5], "history": HISTORY}, "rows 0 and 1 are of the same user"),
        ({"user_id": [1, 2], "history": [1, 2]}, "history must hold a list of whole numbers or strings"),
        ({"user_id": [1, 2], "history": [[0.5], [1.0]]}, "history must hold a list of whole numbers or"),
        ({"user_id": [1, 2], "history": [[1, None], [2]]}, "a list of history in rows 0 to 1 holds a null"),
        ({"user_id": [1, 2], "seen": [True, False]}, "seen must hold numbers, strings or a list"),
        ({"user_id": pa.array([1, (1 << 64) - 1], pa.uint64()), "age": [1, 2]}, "user_id cannot be cast"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(tmp_path: Path, columns: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidData, match=text) as caught:
        table(tmp_path, **columns)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["users.parquet"]


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_a_file_that_is_cut_is_refused(tmp_path: Path, cut: int) -> None:
    table(tmp_path, user_id=[1, 2], history=HISTORY)
    path = tmp_path / "users.parquet"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InvalidData, match="cannot be read as Parquet"):
        FileTable(path, lambda _: True)
