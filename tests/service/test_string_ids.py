"""A catalog whose ids are strings, from tables to answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from meshfold.model.build import publish
from meshfold.model.data.catalog import Catalog
from meshfold.model.data.source import open_source
from meshfold.model.data.tables import TableSource
from meshfold.model.data.vector_file import with_vectors, write_vectors
from meshfold.model.errors import InvalidData, InvalidQuery, SnapshotRefused
from meshfold.model.filter.text import parse_filter
from meshfold.model.item_ids import keys_of_strings
from meshfold.model.schema import IdKind, Schema
from meshfold.model.snapshot import Snapshot
from meshfold.model.store import Store
from meshfold.model.types import Query, ScoreQuery, SearchQuery, User
from meshfold.service.runner import Runner

NAMES = [
    "vid_10",
    "vid_9",
    "AE22",
    "ä",
    "zz",
    "550e8400-e29b-41d4-a716-446655440000",
    "日本",
    "a b",
    "7",
    "-",
]
SCHEMA = """
surface = "clips"
[items]
source = "items.parquet"
id = "id"
vector = "vector"
[fields.id]
kind = "category"
[interactions]
source = "events.csv"
user = "user"
item = "item"
time = "time"
[tasks.watch]
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strings")
    vectors = np.random.default_rng(1).standard_normal((len(NAMES), 4)).astype(np.float32)
    vectors[4] = vectors[2]  # "AE22" and "zz" tie.
    table = pa.table({"id": NAMES, "vector": list(vectors)})
    pq.write_table(table, folder / "items.parquet")
    events = "".join(f"AF{u},{NAMES[(u * 3 + t) % 10]},{t}\n" for u in range(6) for t in range(4))
    (folder / "events.csv").write_text("user,item,time\n" + events)
    (folder / "schema.toml").write_text(SCHEMA)
    return folder


@pytest.fixture(scope="module")
def snapshot(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(open_source(data).catalog(), Store(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def runner(snapshot: Path) -> Runner:
    return Runner.open(snapshot, "clips")


def _answer(runner: Runner, query: Query) -> tuple[str, ...]:
    (answer,) = runner.run([runner.prepare(query)])
    assert isinstance(answer.item_ids, tuple)
    return answer.item_ids


def test_answers_name_items_by_their_strings(runner: Runner) -> None:
    assert runner.schema.ids is IdKind.STRINGS
    answered = _answer(runner, Query("clips", 20, history=("vid_10", "nobody")))
    assert sorted(answered) == sorted(set(NAMES) - {"vid_10"})
    assert "vid_9" not in _answer(
        runner, Query("clips", 20, history=("vid_10",), excluded_ids=("vid_9", "x"))
    )


def test_ties_go_to_the_smaller_string(runner: Runner) -> None:
    answered = _answer(runner, Query("clips", 20, history=("vid_10",)))
    assert answered.index("zz") == answered.index("AE22") + 1


def test_popular_items_tie_by_their_bytes(data: Path, tmp_path: Path) -> None:
    catalog = open_source(data).catalog()
    level = replace(catalog, popularity=np.ones(len(NAMES), np.float32))
    runner = Runner.open(publish(level, Store(tmp_path)), "clips")
    assert _answer(runner, Query("clips", 20)) == tuple(sorted(NAMES, key=str.encode))


def test_search_and_score_speak_strings(runner: Runner) -> None:
    vector = np.ones(4, np.float32)
    (found,) = runner.search(
        [runner.prepare_search(SearchQuery("clips", 3, (vector,), excluded_ids=("zz",)))]
    )
    assert set(found.item_ids[0]) <= set(NAMES) - {"zz"}
    asked = ScoreQuery("clips", User(history=("ä",)), ("日本", "nobody", "7", "日本"))
    (scores,) = runner.score([runner.prepare_score(asked)])
    assert (scores.item_ids, scores.unknown_ids) == (("日本", "7", "日本"), ("nobody",))


@pytest.mark.parametrize(
    ("query", "path"),
    [
        (Query("clips", 1, history=np.array([1])), "history"),
        (Query("clips", 1, excluded_ids=np.array([1])), "excluded_ids"),
    ],
)
def test_integers_are_refused_by_their_path(runner: Runner, query: Query, path: str) -> None:
    with pytest.raises(
        InvalidQuery, match=f"{path}: holds integers; the item ids of this surface are strings"
    ):
        runner.prepare(query)


def test_a_filter_reads_the_id_as_a_field(runner: Runner) -> None:
    answered = _answer(runner, Query("clips", 20, filter=parse_filter('id in ["zz", "7"]')))
    assert sorted(answered) == ["7", "zz"]


def test_the_order_of_the_table_changes_no_version(data: Path, snapshot: Path, tmp_path: Path) -> None:
    table = pq.read_table(data / "items.parquet")
    copy = tmp_path / "data"
    copy.mkdir()
    pq.write_table(table.take(np.random.default_rng(0).permutation(len(table))), copy / "items.parquet")
    for name in ("events.csv", "schema.toml"):
        (copy / name).write_bytes((data / name).read_bytes())
    again = publish(open_source(copy).catalog(), Store(tmp_path / "store"))
    assert again.name.split("-")[1] == snapshot.name.split("-")[1]


def test_histories_of_users_who_are_strings(data: Path) -> None:
    interactions = TableSource(data / "schema.toml").interactions()
    assert interactions is not None
    (user,) = keys_of_strings(["AF2"]).tolist()
    assert (
        interactions.history(user).tolist()
        == keys_of_strings([NAMES[(6 + t) % 10] for t in range(4)]).tolist()
    )


def test_vectors_are_joined_by_string(data: Path, tmp_path: Path) -> None:
    catalog = open_source(data).catalog()
    vectors = np.arange(40, dtype=np.float32).reshape(10, 4)
    write_vectors(tmp_path / "v.parquet", catalog.ids[::-1], [vectors[::-1]], 4)
    joined = with_vectors(catalog, tmp_path / "v.parquet")
    assert np.array_equal(np.concatenate(list(joined.vectors())), vectors)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b", "a"], "1 item ids occur more than once, such as a"),
        (["a", "b"], "names has 2 ids for 3 items"),
        (None, "the schema says that item ids are strings"),
    ],
)
def test_a_catalog_of_strings_is_checked(names: list[str] | None, message: str) -> None:
    schema = Schema("clips", (), ("watch",), ids=IdKind.STRINGS)
    keys = keys_of_strings(
        (names or ["a", "b", "c"]) if names is None or len(names) == 3 else ["a", "b", "c"]
    )
    with pytest.raises(InvalidData, match=message):
        Catalog(schema, keys, {}, lambda: iter([]), 0, names=names)


def test_a_damaged_dictionary_is_refused(snapshot: Path, tmp_path: Path) -> None:

    whole = Snapshot.open(snapshot)
    for name, tensor in (
        ("id.rows", torch.zeros(10, dtype=torch.int32)),
        ("id.offsets", torch.full((11,), 3)),
        ("id.bytes", torch.full((66,), 255, dtype=torch.uint8)),
    ):
        with pytest.raises(SnapshotRefused, match=name.replace(".", r"\.")):
            replace(whole, items={**whole.items, name: tensor}).check()
