import hashlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from meshfold.kernels.native import library
from meshfold.kernels.vectors.quantize import Quantized, dequantize, quantize
from meshfold.model.data.generated import item_vectors
from meshfold.model.index.kmeans import SPREAD_WEIGHT, Assigned, Centroids, assign, learn_centroids, spreads
from meshfold.model.progress import silent


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32))


def learn(vectors: Tensor, clusters: int, iterations: int = 6, seed: int = 0) -> Centroids:
    return learn_centroids(quantize(vectors), clusters, iterations, seed, silent)


def digest(*tensors: Tensor) -> str:
    return hashlib.sha256(b"".join(t.contiguous().numpy().tobytes() for t in tensors)).hexdigest()


@pytest.mark.parametrize(("d", "n"), [(64, 20_000), (1100, 1500)])
def test_any_number_of_threads_and_any_kernels_give_the_same_bytes(d: int, n: int) -> None:
    (vectors,) = item_vectors(n, d)
    items = quantize(torch.from_numpy(vectors))
    found = set()
    for level in library.levels():
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with library.forced(level):
                centroids = learn_centroids(items, 150, 4, 0, silent)
                assigned = assign(items.codes, items.scales, centroids)
            spread = spreads(assigned, 150, d)
            found.add(digest(centroids.codes, centroids.scales, assigned.members, assigned.distances, spread))
    assert len(found) == 1


def test_an_iteration_is_lloyds_in_integers() -> None:
    items = quantize(normal(300, 5))
    n, clusters, one = 300, 12, learn_centroids(items, 12, 1, 7, silent)
    # All items are the sample, as there are fewer than 64 for each cluster.
    rng = np.random.Generator(np.random.PCG64(7))
    rng.choice(n, n, replace=False)
    start = torch.from_numpy(rng.choice(n, clusters, replace=False))
    exact = items.codes.double() * items.scales.double()[:, None]
    first = quantize((exact[start] * 256).float())
    members = assign(items.codes, items.scales, Centroids(first.codes, first.scales)).members
    means = torch.stack([exact[members == c].mean(0) * 256 for c in range(clusters)])
    wanted = quantize(means.float())
    # Fixed point of 31 bits leaves a code where it is, but for a value next to a half.
    assert (one.codes.int() - wanted.codes.int()).abs().max() <= 1
    assert (one.codes == wanted.codes).float().mean() > 0.99
    assert torch.allclose(one.scales, wanted.scales, rtol=1e-6)


def plain(codes: Tensor, units: Tensor) -> Tensor:
    return codes.double() * units.double().unsqueeze(1) * 256


@pytest.mark.parametrize("d", [1, 7, 64, 1040, 1041])
def test_the_nearest_is_the_one_that_brute_force_finds(d: int) -> None:
    items = quantize(normal(5000, d))
    centroids = learn(normal(300, d, 1), 40)
    got = assign(items.codes, items.scales, centroids)
    x, c = plain(items.codes, items.scales), plain(centroids.codes, centroids.scales)
    exact = ((x[:, None] - c[None]) ** 2).sum(-1) if d < 100 else torch.cdist(x, c) ** 2
    chosen = exact.gather(1, got.members[:, None]).squeeze(1)
    # Two roundings to float32 of terms as large as the squared lengths.
    slack = 1e-5 * (x.square().sum(1) + c.square().sum(1).max())
    assert (chosen <= exact.min(1).values + slack).all()
    assert ((got.distances.double() - chosen).abs() <= slack).all()


def test_of_equally_near_centroids_the_smaller_is_chosen() -> None:
    for clusters in (2, 7, 64, 1000):
        centroids = Centroids(torch.ones((clusters, 4), dtype=torch.int8), torch.ones(clusters))
        centroids.codes[0] = 90
        got = assign(torch.ones((5000, 4), dtype=torch.int8), torch.ones(5000), centroids)
        assert got.members.eq(1).all()
        assert not got.distances.any()


def test_as_many_clusters_as_items_give_each_its_own() -> None:
    items = quantize(normal(60, 16))
    centroids = learn_centroids(items, 60, 6, 0, silent)
    assert sorted(assign(items.codes, items.scales, centroids).members.tolist()) == list(range(60))


@pytest.mark.parametrize(("n", "clusters"), [(1, 1), (100, 1), (100, 10), (3000, 40)])
@pytest.mark.parametrize("value", [0.0, 1.0, -3e5])
def test_one_vector_many_times_over(n: int, clusters: int, value: float) -> None:
    items = quantize(torch.full((n, 8), value))
    centroids = learn_centroids(items, clusters, 3, 0, silent)
    got = assign(items.codes, items.scales, centroids)
    assert got.members.eq(0).all()
    assert got.distances.max() <= 1e-3 * value**2
    assert torch.isfinite(spreads(got, clusters, 8)).all()


@pytest.mark.parametrize("distinct", [2, 3, 9])
def test_fewer_distinct_vectors_than_clusters(distinct: int) -> None:
    vectors = normal(distinct, 8).repeat(50, 1)
    items = quantize(vectors)
    centroids = learn_centroids(items, 24, 6, 0, silent)
    members = assign(items.codes, items.scales, centroids).members
    assert len(set(members.tolist())) <= distinct
    assert torch.equal(members, members[:distinct].repeat(50))


def test_well_apart_groups_are_clusters_of_their_own() -> None:
    centres = normal(12, 32, 5) * 100
    vectors = centres.repeat_interleave(100, 0) + normal(1200, 32, 6)
    items = quantize(vectors)
    best = np.inf
    for seed in range(3):
        centroids = learn_centroids(items, 40, 8, seed, silent)
        distances = assign(items.codes, items.scales, centroids).distances
        best = min(best, float(distances.mean()))
    assert best < 1.5 * 32


def test_iterations_bring_centroids_nearer() -> None:
    (vectors,) = item_vectors(6000, 16)
    items = quantize(torch.from_numpy(vectors))
    means = [
        float(assign(items.codes, items.scales, learn_centroids(items, 80, i, 0, silent)).distances.mean())
        for i in (1, 3, 8)
    ]
    assert means[0] > means[1] > means[2]


@pytest.mark.parametrize("exponent", [-60, -40, 40, 60])
def test_the_size_of_vectors_does_not_change_their_clusters(exponent: int) -> None:
    vectors = normal(2000, 8)
    wanted = learn(vectors, 20)
    found = learn(vectors * 2.0**exponent, 20)
    assert torch.equal(found.codes, wanted.codes)
    items = quantize(vectors * 2.0**exponent)
    got = assign(items.codes, items.scales, found)
    assert torch.isfinite(got.distances).all()
    plain_items = quantize(vectors)
    assert torch.equal(got.members, assign(plain_items.codes, plain_items.scales, wanted).members)


def test_more_clusters_than_items_are_refused() -> None:
    with pytest.raises(ValueError, match="4 clusters need as many items, got 3"):
        learn(normal(3, 2), 4)


def test_a_centroid_is_near_the_mean_of_its_members() -> None:
    items = quantize(normal(400, 16))
    centroids = learn_centroids(items, 1, 2, 0, silent)
    # The sample is drawn of all items where there are few for each cluster: 64 of 400 here.
    mean = dequantize(items).mean(0)
    assert (plain(centroids.codes, centroids.scales)[0] - mean).abs().max() < 0.6
    many = quantize(normal(60, 16))
    centroids = learn_centroids(many, 1, 2, 0, silent)
    mean = plain(many.codes, many.scales).mean(0)
    assert (plain(centroids.codes, centroids.scales)[0] - mean).abs().max() < 0.01


def test_spreads_are_the_root_mean_square_of_a_cluster() -> None:
    assigned = Assigned(torch.tensor([0, 0, 2, 2, 2]), torch.tensor([4.0, 12.0, 1.0, 2.0, 3.0]))
    got = spreads(assigned, 4, 2) * 256 / SPREAD_WEIGHT
    assert torch.allclose(got, torch.tensor([2.0, 0.0, 1.0, 0.0]))
    nothing = Assigned(torch.tensor([0]), torch.tensor([0.0]))
    assert spreads(nothing, 2, 8).tolist() == [0.0, 0.0]


def test_another_seed_starts_elsewhere() -> None:
    vectors = normal(500, 8)
    assert not torch.equal(learn(vectors, 10, seed=0).codes, learn(vectors, 10, seed=1).codes)
    assert torch.equal(learn(vectors, 10, seed=3).codes, learn(vectors, 10, seed=3).codes)


def test_vectors_of_zeros_among_others_have_a_cluster() -> None:
    vectors = normal(1000, 8)
    vectors[::3] = 0
    items: Quantized = quantize(vectors)
    got = assign(items.codes, items.scales, learn_centroids(items, 20, 6, 0, silent))
    assert len(set(got.members[::3].tolist())) == 1
    assert torch.isfinite(got.distances).all()
