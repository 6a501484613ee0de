import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from meshfold.model.data.generated import item_vectors, user_vectors
from meshfold.model.data.generated_tables import GENRES, LANGUAGES, write_generated
from meshfold.model.data.interactions import places_of
from meshfold.model.data.source import open_source
from meshfold.model.errors import InvalidData

ITEMS, DIMENSION, USERS, SEED = 9000, 16, 600, 11  # two blocks of items and of users


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("generated") / "sub" / "folder"
    stages: list[tuple[str, int, int]] = []
    write_generated(out, ITEMS, DIMENSION, USERS, SEED, lambda *step: stages.append(step))
    assert stages[-1] == ("interactions", USERS, USERS)
    assert ("items", ITEMS, ITEMS) in stages
    assert list(out.parent.iterdir()) == [out]
    return out


def _digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def test_it_reads_as_a_source(folder: Path) -> None:
    source = open_source(folder)
    catalog, interactions = source.catalog(), source.interactions()
    assert source.schema.generated
    assert source.has_vectors
    assert sorted(catalog.item_ids.tolist()) == list(range(1, ITEMS + 1))
    assert (np.diff(catalog.item_ids) < 0).any()
    assert catalog.texts["title"][0].startswith(f"generated item {catalog.item_ids[0]} (topic ")
    assert set(catalog.columns["genre"].vocabulary or ()) == set(GENRES)
    assert set(catalog.columns["languages"].vocabulary or ()) == set(LANGUAGES)
    assert 0 < ITEMS - len(catalog.columns["price"].values) < 0.2 * ITEMS
    assert interactions is not None
    assert interactions.users.tolist() == list(range(1, USERS + 1))
    assert np.diff(interactions.user_offsets).min() >= 5
    assert interactions.tasks["watch"].all()
    assert 0.1 < interactions.tasks["like"].mean() < 0.6
    for user in (1, USERS):
        history = interactions.history(user)
        assert len(set(history.tolist())) == len(history)


def test_its_vectors_are_those_in_memory(folder: Path) -> None:
    written = np.concatenate(list(open_source(folder).catalog().vectors()))
    np.testing.assert_array_equal(written, np.concatenate(list(item_vectors(ITEMS, DIMENSION, SEED))))
    queries = pq.read_table(folder / "queries.parquet")
    assert queries["drawn_as"].to_pylist() == ["user"] * USERS + ["item"] * USERS
    vectors = np.array(queries["vector"].to_pylist()[:USERS], np.float32)
    np.testing.assert_array_equal(vectors, user_vectors(USERS, DIMENSION, SEED, items=ITEMS))


def test_preferences_are_planted(folder: Path) -> None:
    """The mean of what a user met first finds what the user met last better than popularity does."""
    source = open_source(folder)
    catalog, interactions = source.catalog(), source.interactions()
    assert interactions is not None
    vectors = np.concatenate(list(catalog.vectors()))
    earlier, latest = interactions.split_latest(0.2)
    popular = np.argsort(-earlier.popularity(catalog.item_ids), kind="stable")[:100]
    found = {"vectors": 0.0, "popular": 0.0}
    for user in range(1, 101):
        query = vectors[places_of(earlier.history(user), catalog.item_ids)].mean(axis=0)
        last = places_of(latest.history(user), catalog.item_ids)
        found["vectors"] += np.isin(last, np.argsort(-(vectors @ query))[:100]).mean()
        found["popular"] += np.isin(last, popular).mean()
    assert found["vectors"] > 1.5 * found["popular"] > 0


def test_equal_arguments_give_equal_bytes_for_any_number_of_threads(folder: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; import sys; from meshfold.model.data.generated_tables import *;"
        f"write_generated(Path(sys.argv[1]), {ITEMS}, {DIMENSION}, {USERS}, {SEED})"
    )
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    out = tmp_path / "again"
    subprocess.run([sys.executable, "-P", "-c", code, str(out)], check=True, env={**os.environ, **threads})
    assert _digests(out) == _digests(folder)


def test_another_seed_gives_other_files(folder: Path, tmp_path: Path) -> None:
    write_generated(tmp_path / "other", ITEMS, DIMENSION, USERS, SEED + 1)
    other, digests = _digests(tmp_path / "other"), _digests(folder)
    assert {name for name in other if other[name] == digests[name]} == {"schema.toml"}


@pytest.mark.parametrize(("items", "users"), [(1, 1), (3, 2), (300, 1)])
def test_the_smallest_catalogs(tmp_path: Path, items: int, users: int) -> None:
    write_generated(tmp_path / "g", items, 2, users, 0)
    source = open_source(tmp_path / "g")
    interactions = source.interactions()
    assert interactions is not None
    assert len(source.catalog()) == items
    assert len(interactions.users) == users


def test_what_cannot_be_written_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="exists already"):
        write_generated(folder, 10, 2, 1, 0)
    with pytest.raises(InvalidData, match="users must lie in 1"):
        write_generated(tmp_path / "g", 10, 2, 0, 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidData, match="cannot be written"):
        write_generated(tmp_path / "file" / "g", 10, 2, 1, 0)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
