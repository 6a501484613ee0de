from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from meshfold.kernels.filter.steps import FilterBatch
from meshfold.model.build import publish
from meshfold.model.config import IndexConfig
from meshfold.model.data.generated import item_vectors, user_vectors
from meshfold.model.index.recall import measure, recall_of
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.snapshot import Snapshot
from meshfold.model.store import Store

DEPTH, CANDIDATES = 1000, 1200


def model_of(snapshot: Snapshot, scan_budget: int) -> RetrievalModel:
    """The snapshot's model with a smaller budget, so that it does not find everything."""
    model = RetrievalModel.of(snapshot)
    model.index._scan_budget = scan_budget
    return model


@pytest.mark.parametrize("scan_budget", [2400, 5000, 16_384])
def test_it_is_the_recall_that_float64_brute_force_counts(generated_folder: Path, scan_budget: int) -> None:
    snapshot = Snapshot.open(generated_folder)
    model = model_of(snapshot, scan_budget)
    vectors = np.concatenate(list(item_vectors(20_000, 64))).astype(np.float64)
    queries = user_vectors(24, 64, 1, items=20_000)
    found, scored = 0, 0
    filter_, everything = model.filter.tensors(), FilterBatch.everything(1)
    for query in queries:
        asked = torch.from_numpy(query).view(1, 1, -1)
        scanned = model.index.search(asked, filter_, everything, torch.tensor([CANDIDATES]), CANDIDATES)
        returned = scanned.positions[0, 0, :DEPTH].numpy()
        exact = vectors @ query.astype(np.float64)
        best = set(np.argsort(-exact, kind="stable")[:DEPTH].tolist())
        # Generated ids ascend with the place, so that a row is a place.
        found += len(best & set(model.index.rows[torch.from_numpy(returned)].tolist()))
        scored += int(scanned.scored)
    recall, share = recall_of(model, torch.from_numpy(queries), DEPTH, CANDIDATES)
    assert recall == pytest.approx(found / (DEPTH * len(queries)), abs=0.003)
    assert share == scored / (20_000 * len(queries))


def test_scoring_more_finds_more_up_to_everything(generated_folder: Path) -> None:
    snapshot = Snapshot.open(generated_folder)
    queries = torch.from_numpy(user_vectors(16, 64, 2, items=20_000))
    pairs = [recall_of(model_of(snapshot, b), queries, 100, 400) for b in (800, 3000, 20_000)]
    assert pairs[0][0] < pairs[1][0] < pairs[2][0]
    assert pairs[0][1] < pairs[1][1] < pairs[2][1] == 1.0
    assert pairs[2][0] > 0.999


def test_ties_with_the_last_exact_result_are_no_misses(catalog_of: Any, tmp_path: Path) -> None:
    vectors = np.repeat(np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32), 50, 0)
    folder = publish(catalog_of(vectors, plain=True), Store(tmp_path))
    model = RetrievalModel.of(Snapshot.open(folder))
    assert recall_of(model, torch.from_numpy(vectors[::50]), 70, 70) == (1.0, 1.0)


def test_fewer_candidates_than_results_cost_recall(generated_folder: Path) -> None:
    model = RetrievalModel.of(Snapshot.open(generated_folder))
    queries = torch.from_numpy(user_vectors(8, 64, 2, items=20_000))
    recall, _ = recall_of(model, queries, 1000, 500)
    assert 0.45 < recall <= 0.5


def test_the_manifest_says_what_is_measured_again(generated_folder: Path) -> None:
    snapshot = Snapshot.open(generated_folder)
    assert dict(snapshot.built["recall"]) == measure(snapshot)
    assert set(snapshot.built["recall"]) == {
        "depth",
        "item_like_recall",
        "item_like_scored_share",
        "user_like_recall",
        "user_like_scored_share",
    }


@pytest.mark.parametrize("items", [1, 2, 30])
def test_a_search_of_everything_finds_everything(catalog_of: Any, tmp_path: Path, items: int) -> None:
    vectors = np.random.default_rng(items).standard_normal((items, 4)).astype(np.float32)
    snapshot = Snapshot.open(publish(catalog_of(vectors), Store(tmp_path)))
    assert measure(snapshot) == {
        "depth": items,
        "item_like_recall": 1.0,
        "item_like_scored_share": 1.0,
        "user_like_recall": 1.0,
        "user_like_scored_share": 1.0,
    }


def test_99_of_100_are_found_by_scoring_a_quarter_of_100_000_items(catalog_of: Any, tmp_path: Path) -> None:
    n, d = 100_000, 128
    vectors = np.concatenate(list(item_vectors(n, d)))
    # Fewer iterations than the default's, which find more, because they take most of the build's time.
    config = IndexConfig(iterations=2)
    folder = publish(catalog_of(vectors, plain=True, tasks=("like",)), Store(tmp_path), config)
    snapshot = Snapshot.open(folder)
    users = torch.from_numpy(user_vectors(32, d, 0, items=n))
    recall, share = recall_of(
        RetrievalModel.of(snapshot), users, config.recall_depth, config.candidates_on("cpu")
    )
    built = snapshot.built["recall"]
    print(f"\nusers: recall@{config.recall_depth} {recall:.4f} by scoring {share:.3f} of {n} items; {built}")
    assert built["item_like_recall"] >= 0.99
    assert built["item_like_scored_share"] <= 0.25
    assert built["user_like_scored_share"] <= 0.25
    assert recall >= 0.95
    assert share <= 0.25
