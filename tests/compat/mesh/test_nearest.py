from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyroaring import BitMap

from meshfold.compat.mesh.items import Items
from meshfold.compat.mesh.nearest import Flat, Ivf, dots, lists_of, open_ivf
from meshfold.compat.mesh.postings import bits_of
from meshfold.model.snapshot import Snapshot
from meshfold.model.types import Float32s


@pytest.fixture(scope="module")
def indices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("indices") / "new"


@pytest.fixture(scope="module")
def ivf(snapshot: Snapshot, items: Items, indices: Path) -> Ivf:
    return open_ivf(snapshot, items.vectors.numpy(), indices, 300)


def queries(count: int) -> Float32s:
    return np.random.default_rng(3).standard_normal((count, 8)).astype(np.float32)


def test_the_probes_find_what_the_snapshots_own_index_finds(
    snapshot: Snapshot, items: Items, ivf: Ivf
) -> None:
    flat, n = Flat(items.vectors.numpy()), len(items)
    asked = queries(32)
    wanted = flat.search(asked, 100, None, n)[1][:, :100]
    found = ivf.search(asked, 300, None, n)[1]
    recall = np.mean([np.isin(w, f).mean() for w, f in zip(wanted, found, strict=True)])
    told = snapshot.built["recall"]
    # Calibrated on other queries and of other depth, of which these are no copy.
    assert recall > min(told["item_like_recall"], told["user_like_recall"]) - 0.05
    assert 0 < ivf.few <= 1


@pytest.mark.parametrize("k", [1, 99, 100, 2999, 3000])
def test_an_exact_search_leaves_out_none_that_is_as_near_as_the_last(items: Items, k: int) -> None:
    """Every vector is there twice: where the cut parts two, both come."""
    flat, asked = Flat(items.vectors.numpy()), queries(4)
    for similarities, rows in zip(*flat.search(asked, k, None, len(items)), strict=True):
        assert (similarities >= similarities[k - 1]).sum() in (k, k + 1)
        twins = set(
            np.flatnonzero((items.vectors.numpy() == items.vectors.numpy()[rows[k - 1]]).all(1)).tolist()
        )
        assert twins <= set(rows.tolist())


def test_an_index_is_built_once_a_version_and_read_from_then_on(
    snapshot: Snapshot, items: Items, ivf: Ivf, indices: Path
) -> None:
    (file,) = indices.iterdir()
    assert file.name.startswith(snapshot.version[:12])
    before = file.stat().st_mtime_ns
    again = open_ivf(snapshot, items.vectors.numpy(), indices, 300)
    assert file.stat().st_mtime_ns == before
    asked = queries(4)
    found = [index.search(asked, 50, None, len(items)) for index in (ivf, again)]
    assert (found[0][0] == found[1][0]).all()
    assert (found[0][1] == found[1][1]).all()


def test_k_means_of_another_seed_has_a_file_and_answers_of_its_own(
    snapshot: Snapshot, items: Items, ivf: Ivf, tmp_path: Path
) -> None:
    vectors = items.vectors.numpy()
    first, other = (open_ivf(snapshot, vectors, tmp_path, 300, seed) for seed in (0, 1))
    assert len(list(tmp_path.iterdir())) == 2
    asked = queries(32)
    found = [index.search(asked, 300, None, len(items))[1] for index in (ivf, first, other)]
    assert (found[0] == found[1]).all()
    assert (found[0] != found[2]).any()


@pytest.mark.parametrize("passing", [1, 40, 400])
def test_whoever_asks_for_k_gets_k_where_k_pass(items: Items, ivf: Ivf, passing: int) -> None:
    rows = np.random.default_rng(passing).choice(len(items), passing, replace=False)
    bits = bits_of(BitMap(rows.astype(np.uint32)), len(items))
    found = ivf.search(queries(3), 30, bits, passing)[1]
    for of_query in found:
        there = of_query[of_query >= 0]
        assert len(there) == min(30, passing)
        assert np.isin(there, rows).all()


def test_dots_are_read_by_row(items: Items) -> None:
    vectors, query = items.vectors.numpy(), queries(1)[0]
    rows = np.array([5, 0, 5, 77], np.int64)
    np.testing.assert_allclose(dots(query, vectors, rows), vectors[rows] @ query, rtol=1e-5, atol=1e-5)
    assert len(dots(query, vectors, rows[:0])) == 0


def test_lists_are_few_enough_to_learn() -> None:
    assert [lists_of(n) for n in (1, 38, 390, 1_000_000)] == [1, 1, 10, 4000]
