import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from meshfold.model.data.interactions import Interactions, places_of
from meshfold.model.data.source import open_source
from meshfold.model.errors import InvalidData
from meshfold.model.types import Float32s, Int64s
from meshfold.model.vectors import factorize


def history_vectors(vectors: Float32s, item_ids: Int64s, histories: Interactions) -> Float32s:
    """[U, D] float32 - for each of histories.users the mean of its items' vectors, of length 1 or 0.

    vectors: [N, D] float32 of item_ids: [N] int64. Items that are not in item_ids are left out.
    """
    from scipy.sparse import csr_array

    places = places_of(histories.item_ids, item_ids)
    known = places >= 0
    users = np.repeat(np.arange(len(histories.users)), np.diff(histories.user_offsets))
    shape = (len(histories.users), len(item_ids))
    met = csr_array((np.ones(int(known.sum()), np.float32), (users[known], places[known])), shape=shape)
    sums: Float32s = met @ vectors
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    unit: Float32s = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
    return unit


def _interactions(pairs: list[tuple[int, int]]) -> Interactions:
    users, items = np.array(pairs, np.int64).reshape(-1, 2).T
    return Interactions(users, items, np.arange(len(pairs)), {})


def _drawn(users: int, items: int) -> Interactions:
    random = np.random.default_rng(5)
    return _interactions([(u, i) for u in range(users) for i in random.permutation(items)[: items // 3]])


def _recall(scores: Float32s, item_ids: Int64s, earlier: Interactions, latest: Interactions, k: int) -> float:
    """Recall@k over users, of what was held out, among what was not seen."""
    rows = np.searchsorted(earlier.users, earlier.user_ids)
    scores[rows, places_of(earlier.item_ids, item_ids)] = -np.inf
    held = np.zeros(scores.shape, bool)
    rows = np.searchsorted(earlier.users, latest.user_ids)
    held[rows, places_of(latest.item_ids, item_ids)] = True
    best = np.argpartition(-scores, k, axis=1)[:, :k]
    return float((np.take_along_axis(held, best, axis=1).sum(axis=1) / held.sum(axis=1)).mean())


def test_vectors_of_movielens_beat_popularity_by_far(movielens: Path) -> None:
    source = open_source(movielens)
    interactions, item_ids = source.interactions(), source.catalog().item_ids
    assert interactions is not None
    earlier, latest = interactions.split_latest(0.2)
    vectors = factorize(earlier, item_ids)
    queries = history_vectors(vectors, item_ids, earlier)
    popular = np.tile(earlier.popularity(item_ids), (len(earlier.users), 1))
    assert _recall(popular, item_ids, earlier, latest, 50) == pytest.approx(0.128, abs=0.002)
    assert _recall(queries @ vectors.T, item_ids, earlier, latest, 50) > 0.235


def test_the_spectrum_is_that_of_the_exact_decomposition() -> None:
    interactions, item_ids = _drawn(40, 30), np.arange(30)
    whole = factorize(interactions, item_ids, 30)
    some = factorize(interactions, item_ids, 6)
    assert (whole.shape, some.shape) == ((30, 30), (30, 6))
    np.testing.assert_allclose(some, whole[:, :6], atol=1e-5)
    # The vectors of dimensions are orthogonal, and longest first.
    lengths = np.linalg.norm(whole, axis=0)
    assert (np.diff(lengths) <= 1e-6).all()
    np.testing.assert_allclose(whole.T @ whole, np.diag(lengths**2), atol=1e-5)
    assert (whole.max(axis=0) >= -whole.min(axis=0)).all()


def test_items_met_together_are_near() -> None:
    pairs = [(u, i) for u in range(20) for i in (range(5) if u % 2 else range(5, 10))]
    vectors = factorize(_interactions(pairs), np.arange(10), 2)
    similar = vectors @ vectors.T
    assert (similar[:5, :5] > 0.1).all()
    np.testing.assert_allclose(similar[:5, 5:], 0, atol=1e-6)


def test_items_that_nobody_met_get_zeros_and_the_order_of_ids_is_kept() -> None:
    interactions = _drawn(40, 30)
    shuffled = np.array([99, *np.random.default_rng(1).permutation(30), -4])
    vectors = factorize(interactions, shuffled, 6)
    assert not vectors[[0, -1]].any()
    np.testing.assert_allclose(
        vectors[np.argsort(shuffled)][1:-1], factorize(interactions, np.arange(30), 6), atol=1e-5
    )


def test_meeting_an_item_twice_counts_once() -> None:
    pairs = [(1, 1), (1, 2), (2, 2), (2, 3)]
    np.testing.assert_array_equal(
        factorize(_interactions(pairs), np.arange(4), 2), factorize(_interactions(pairs * 2), np.arange(4), 2)
    )


@pytest.mark.parametrize(("users", "items"), [(1, 27), (40, 9), (5, 27), (90, 120)])
def test_the_dimension_is_at_most_users_and_met_items(users: int, items: int) -> None:
    interactions = _drawn(users, items)
    vectors = factorize(interactions, np.arange(items), 64)
    met = len(set(interactions.item_ids.tolist()))
    assert vectors.shape == (items, min(64, users, met))
    assert np.isfinite(vectors).all()


def test_what_has_no_rank_gives_zeros() -> None:
    pairs = [(u, i) for u in range(6) for i in range(6)]
    vectors = factorize(_interactions(pairs), np.arange(6), 4)
    assert vectors[:, 0].all()
    assert not vectors[:, 1:].any()


def test_bytes_do_not_depend_on_threads() -> None:
    code = (
        "import hashlib, numpy as np; from meshfold.model.vectors import *; r = np.random.default_rng(3);"
        "i = Interactions(r.integers(0, 900, 30000), r.integers(0, 700, 30000), np.zeros(30000), {});"
        "print(hashlib.sha256(factorize(i, np.arange(700), 48).tobytes()).hexdigest())"
    )
    digests = set()
    for threads in ("1", "2"):
        env = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        run = subprocess.run(
            [sys.executable, "-P", "-c", code], check=True, env=env, capture_output=True, text=True
        )
        digests.add(run.stdout)
    assert len(digests) == 1
    assert len(digests.pop().strip()) == hashlib.sha256().digest_size * 2


def test_a_history_is_the_unit_mean_of_its_known_items() -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], np.float32)
    histories = _interactions([(1, 10), (1, 20), (2, 20), (2, 77), (3, 30), (4, 77)])
    expected = [[0.5**0.5, 0.5**0.5], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    np.testing.assert_allclose(
        history_vectors(vectors, np.array([10, 20, 30]), histories), expected, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("dimension", "seed", "ids", "message"),
    [
        (0, 0, [1], "dimension must lie in 1 to 1024, got 0"),
        (2000, 0, [1], "dimension must lie in 1 to 1024, got 2000"),
        (2, -1, [1], "seed must lie in 0"),
        (2, 0, [7], "none of 2 interactions is with an item of the catalog"),
    ],
)
def test_what_cannot_be_factorized_is_refused(
    dimension: int, seed: int, ids: list[int], message: str
) -> None:
    with pytest.raises(InvalidData, match=message):
        factorize(_interactions([(1, 1), (2, 1)]), np.array(ids), dimension, seed)
