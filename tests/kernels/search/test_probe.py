import numpy as np
import pytest
import torch
from torch import Tensor

from meshfold.kernels.search.probe import probe_order


def int8(rng: np.random.Generator, *shape: int) -> Tensor:
    return torch.from_numpy(rng.integers(-127, 128, shape).astype(np.int8))


def slow_order(query: list[int], centroids: list[list[int]], scales: Tensor, spreads: Tensor) -> list[int]:
    """Sums as Python integers, then the docstring's formula with one float32 rounding a step."""
    length = np.float32(np.sqrt(np.float64(sum(q * q for q in query))))
    scores = []
    for centroid, scale, spread in zip(centroids, scales.numpy(), spreads.numpy(), strict=True):
        total = np.float32(sum(q * c for q, c in zip(query, centroid, strict=True)))
        scores.append(np.float32(np.float32(total * scale) + np.float32(length * spread)))
    return sorted(range(len(scores)), key=lambda c: (-scores[c], c))


@pytest.mark.parametrize("d", [1, 63, 64, 768])
@pytest.mark.parametrize("clusters", [1, 2, 33])
def test_it_is_the_formula_of_the_docstring(d: int, clusters: int) -> None:
    rng = np.random.default_rng(d * clusters)
    queries, centroids = int8(rng, 2, 3, d), int8(rng, clusters, d)
    scales = torch.from_numpy(rng.random(clusters).astype(np.float32))
    spreads = torch.from_numpy((rng.random(clusters) * 10).astype(np.float32))
    order = probe_order(queries, centroids, scales, spreads)
    assert order.dtype == torch.int64
    for i in range(2):
        for j in range(3):
            assert order[i, j].tolist() == slow_order(
                queries[i, j].tolist(), centroids.tolist(), scales, spreads
            )


def test_equal_scores_go_to_the_smaller_cluster() -> None:
    centroids = torch.tensor([[1, 0], [2, 0], [1, 7], [2, -3], [0, 0]], dtype=torch.int8)
    query = torch.tensor([[[5, 0]]], dtype=torch.int8)
    assert probe_order(query, centroids, torch.ones(5), torch.zeros(5)).tolist() == [[[1, 3, 0, 2, 4]]]


def test_a_query_of_zeros_opens_clusters_in_their_order() -> None:
    spreads = torch.arange(6).float()
    order = probe_order(
        torch.zeros((1, 1, 4), dtype=torch.int8), torch.ones((6, 4), dtype=torch.int8), torch.ones(6), spreads
    )
    assert order.flatten().tolist() == list(range(6))


def test_a_wide_cluster_is_opened_before_a_narrow_one_of_the_same_score() -> None:
    centroids = torch.tensor([[3, 0], [3, 0]], dtype=torch.int8)
    query = torch.tensor([[[5, 1]]], dtype=torch.int8)
    assert probe_order(query, centroids, torch.ones(2), torch.tensor([0.1, 0.2])).tolist() == [[[1, 0]]]


def test_the_company_of_a_query_changes_nothing() -> None:
    rng = np.random.default_rng(5)
    queries, centroids = int8(rng, 7, 2, 32), int8(rng, 50, 32)
    scales, spreads = torch.rand(50), torch.rand(50)
    whole = probe_order(queries, centroids, scales, spreads)
    for i in range(7):
        assert torch.equal(probe_order(queries[i : i + 1], centroids, scales, spreads)[0], whole[i])


def test_shapes_that_do_not_fit_are_refused() -> None:
    queries = torch.zeros((1, 1, 4), dtype=torch.int8)
    with pytest.raises(ValueError, match=r"centroids must be \[C, 4\] int8, got \[2, 3\]"):
        probe_order(queries, torch.zeros((2, 3), dtype=torch.int8), torch.ones(2), torch.ones(2))
    with pytest.raises(ValueError, match=r"scales must be \[2\] float32, got \[3\]"):
        probe_order(queries, torch.zeros((2, 4), dtype=torch.int8), torch.ones(3), torch.ones(2))
    with pytest.raises(ValueError, match="spreads must be"):
        probe_order(queries, torch.zeros((2, 4), dtype=torch.int8), torch.ones(2), torch.ones(2).double())
