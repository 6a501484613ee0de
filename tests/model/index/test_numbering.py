from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from meshfold.kernels.native import library
from meshfold.kernels.vectors.quantize import quantize
from meshfold.model.data.generated import item_vectors
from meshfold.model.index.kmeans import Centroids, learn_centroids
from meshfold.model.index.numbering import side_by_side
from meshfold.model.progress import silent


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def of(vectors: Tensor) -> Centroids:
    quantized = quantize(vectors)
    return Centroids(quantized.codes, quantized.scales)


def learnt(clusters: int, items: int = 6000, d: int = 24) -> Centroids:
    (vectors,) = item_vectors(items, d)
    return learn_centroids(quantize(torch.from_numpy(vectors)), clusters, 4, 0, silent)


def stretches(centroids: Centroids, order: Tensor, queries: Tensor, opened: int) -> float:
    """Of consecutive numbers, on average: those of the clusters that queries open."""
    vectors = centroids.codes.double() * centroids.scales.double()[:, None]
    best = torch.topk(queries.double() @ vectors.T, opened, dim=1).indices
    numbers = torch.argsort(order)[best].sort(1).values
    return 1 + float((numbers.diff(dim=1) > 1).sum(1).double().mean())


@pytest.mark.parametrize("clusters", [1, 2, 3, 4, 5, 17, 150, 500])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_cluster_has_one_new_number(clusters: int, seed: int) -> None:
    order = side_by_side(learnt(clusters, 1000), seed)
    assert order.dtype == torch.int64
    assert sorted(order.tolist()) == list(range(clusters))


def test_each_is_followed_by_the_nearest_that_is_left() -> None:
    # Three are one group.
    line = torch.tensor([[5.0, 0.0], [5.0, 10.0], [5.0, 1.0]])
    assert side_by_side(of(line), 0).tolist() == [0, 2, 1]


def test_groups_follow_one_another() -> None:
    places = torch.tensor([0.0, 100, 200, 1, 101, 201, 2, 102, 202])
    vectors = torch.stack([torch.full_like(places, 40.0), places], 1)
    found = places[side_by_side(of(vectors), 0)] // 100
    assert int((found.diff() != 0).sum()) == 2


@pytest.mark.parametrize("clusters", [5, 100, 2500])
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_clusters_that_cannot_be_told_apart_keep_their_order(clusters: int, value: float) -> None:
    same = of(torch.full((clusters, 6), value))
    assert side_by_side(same, 0).tolist() == list(range(clusters))


def test_any_number_of_threads_and_any_kernels_give_the_same_order() -> None:
    centroids = learnt(300)
    found = set()
    for level in library.levels():
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with library.forced(level):
                found.add(tuple(side_by_side(centroids, 0).tolist()))
    assert len(found) == 1


def test_what_a_query_opens_is_fewer_stretches() -> None:
    centroids = learnt(900, 20_000)
    (queries,) = item_vectors(64, 24)
    drawn = torch.from_numpy(np.random.default_rng(0).permutation(900))
    before = stretches(centroids, drawn, torch.from_numpy(queries), 110)
    after = stretches(centroids, side_by_side(centroids, 0), torch.from_numpy(queries), 110)
    assert after < 0.75 * before


@pytest.mark.parametrize("exponent", [-40, 40])
def test_the_size_of_vectors_does_not_change_their_order(exponent: int) -> None:
    centroids = learnt(100)
    scaled = Centroids(centroids.codes, centroids.scales * 2.0**exponent)
    assert torch.equal(side_by_side(scaled, 0), side_by_side(centroids, 0))
