import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from meshfold.kernels.filter.bundles import pack
from meshfold.kernels.filter.steps import FilterBatch, FilterTensors, Op
from meshfold.kernels.native import library
from meshfold.kernels.search.coarse import coarse_values, pack_coarse
from meshfold.kernels.search.ivf_search import search
from meshfold.kernels.search.sample import SAMPLE, sample_positions
from meshfold.kernels.search.tensors import Found, IvfTensors, Limits
from meshfold.kernels.vectors.quantize import fine_values, quantize_reference

_UNLIMITED = 2**40


@pytest.fixture(autouse=True, params=library.levels(), scope="module")
def _level(request: pytest.FixtureRequest) -> Iterator[None]:
    with library.forced(request.param):
        yield


@dataclass(frozen=True, eq=False)
class World:
    """Small codes and scales of powers of two, so that many scores tie exactly; a field for each query."""

    ivf: IvfTensors
    filter: FilterTensors
    programs: FilterBatch
    passing: Tensor

    @staticmethod
    def random(
        rng: np.random.Generator, sizes: Sequence[int], d: int, passing: Tensor, largest: int = 2
    ) -> "World":
        """passing: [B, N] bool."""
        n, c = sum(sizes), len(sizes)
        ivf = IvfTensors(
            codes(rng, (c, d), largest),
            torch.from_numpy(rng.choice(np.array([0.5, 1, 2], np.float32), c)),
            torch.from_numpy(rng.choice(np.array([0, 0.5], np.float32), c)),
            torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)),
            own := codes(rng, (n, d), largest),
            codes(rng, (n, d), largest),
            torch.from_numpy(rng.choice(np.array([0.5, 1, 2], np.float32), n)),
            torch.from_numpy(rng.permutation(n).astype(np.int32)),
            pack_coarse(own),
        )
        b = len(passing)
        signature = torch.stack([pack(members) for members in passing], 1)
        steps = torch.tensor([[[Op.EXISTS, field, 0, 0]] for field in range(b)])
        nothing = torch.empty((b, 0), dtype=torch.int64)
        return World(
            ivf,
            FilterTensors(
                signature, [torch.zeros(n, dtype=torch.int32)] * b, [torch.empty(0, dtype=torch.int64)] * b
            ),
            FilterBatch(steps, nothing, nothing.unsqueeze(2), nothing),
            passing,
        )

    def of_codes(self, codes: Tensor) -> "World":
        """With other codes, and nothing in their low bytes."""
        return replace(
            self,
            ivf=replace(self.ivf, codes=codes, residuals=torch.zeros_like(codes), coarse=pack_coarse(codes)),
        )

    def search(
        self,
        vectors: Tensor,
        budget: Sequence[int],
        depth: Sequence[int],
        probes: Sequence[int] = (),
        rescored: int = 2,
    ) -> Found:
        limits = Limits(
            torch.tensor(budget),
            torch.tensor(probes or [_UNLIMITED] * len(budget)),
            torch.tensor(depth),
            rescored,
        )
        return search(vectors, self.ivf, self.filter, self.programs, limits, max(depth))

    def slow(
        self, vector: Tensor, passing: list[bool], budget: int, probes: int, depth: int, rescored: int
    ) -> tuple[list[int], int, int]:
        """(positions, opened, scored) by the docstring, one item after the other."""
        ivf = self.ivf
        query = quantize_reference(vector).codes.tolist()
        length = np.float32(math.sqrt(sum(q * q for q in query)))

        def probed(cluster: int) -> tuple[float, int]:
            score = np.float32(dot(query, ivf.centroids[cluster])) * ivf.centroid_scales[cluster].numpy()
            return -float(score + length * ivf.centroid_spreads[cluster].numpy()), cluster

        def rank(position: int) -> tuple[float, int]:
            score = np.float32(dot(query, 32 * (ivf.codes[position].int() // 16) + 15))
            return -float(score * ivf.scales[position].numpy()), int(ivf.rows[position])

        def rank_again(position: int) -> tuple[float, int]:
            return -similarity(vector, ivf, position), int(ivf.rows[position])

        chosen: list[int] = []
        opened = 0
        for cluster in sorted(range(len(ivf.centroids)), key=probed)[:probes]:
            opened += 1
            chosen += [
                p for p in range(int(ivf.offsets[cluster]), int(ivf.offsets[cluster + 1])) if passing[p]
            ]
            if len(chosen) >= budget:
                break
        pool = sorted(chosen, key=rank)[: depth * rescored]
        return sorted(pool, key=rank_again)[:depth], opened, len(chosen)


def codes(rng: np.random.Generator, shape: tuple[int, ...], largest: int = 2) -> Tensor:
    return torch.from_numpy(rng.integers(-largest, largest + 1, shape).astype(np.int8))


def dot(query: list[int], code: Tensor) -> int:
    return sum(a * b for a, b in zip(query, code.tolist(), strict=True))


def similarity(vector: Tensor, ivf: IvfTensors, position: int) -> float:
    codes, residuals, scale = quantize_reference(vector).contiguous()
    query = 256 * codes.long() + residuals.long()
    fine = 256 * ivf.codes[position].long() + ivf.residuals[position].long()
    return float(np.float32(int(query @ fine) * float(ivf.scales[position]) * float(scale)))


def all_of(n: int, queries: int = 1) -> Tensor:
    return torch.ones((queries, n), dtype=torch.bool)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.sampled_from([0, 0, 1, 2, 5, 30]), min_size=1, max_size=8).filter(any),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    budget=st.lists(st.integers(0, 80), min_size=3, max_size=3),
    probes=st.lists(st.sampled_from([0, 1, 3, _UNLIMITED]), min_size=3, max_size=3),
    depth=st.lists(st.integers(1, 40), min_size=3, max_size=3),
    rescored=st.integers(1, 3),
    largest=st.sampled_from([2, 127]),
)
def test_it_is_the_docstring_item_by_item(
    seed: int,
    sizes: list[int],
    share: float,
    budget: list[int],
    probes: list[int],
    depth: list[int],
    rescored: int,
    largest: int,
) -> None:
    rng = np.random.default_rng(seed)
    world = World.random(rng, sizes, 3, torch.from_numpy(rng.random((3, sum(sizes))) < share), largest)
    vectors = codes(rng, (3, 2, 3)).float()
    got = world.search(vectors, budget, depth, probes, rescored)
    assert got.positions.shape == got.similarities.shape == (3, 2, max(depth))
    for i in range(3):
        for j in range(2):
            best, opened, scored = world.slow(
                vectors[i, j], world.passing[i].tolist(), budget[i], probes[i], depth[i], rescored
            )
            assert got.positions[i, j].tolist() == best + [-1] * (max(depth) - len(best))
            similarities = [similarity(vectors[i, j], world.ivf, position) for position in best]
            assert got.similarities[i, j].tolist() == similarities + [0] * (max(depth) - len(best))
            assert got.opened[i, j].item() == opened
            assert got.scored[i, j].item() == scored
    assert got.sampled.tolist() == world.passing.sum(1).tolist()


@pytest.mark.parametrize(
    ("budget", "opened"), [(0, 1), (1, 2), (3, 2), (4, 4), (7, 4), (8, 5), (9, 5), (1000, 5)]
)
def test_the_shortest_run_that_meets_the_budget_is_opened(budget: int, opened: int) -> None:
    """Clusters in probe order hold 0, 3, 0, 4 and 1 survivors."""
    world = World.random(np.random.default_rng(0), [0, 3, 0, 4, 1], 1, all_of(8))
    ivf = replace(
        world.ivf,
        centroids=torch.tensor([[5], [4], [3], [2], [1]], dtype=torch.int8),
        centroid_scales=torch.ones(5),
        centroid_spreads=torch.zeros(5),
    )
    got = replace(world, ivf=ivf).search(torch.ones((1, 1, 1)), [budget], [8])
    assert got.opened.item() == opened
    assert got.scored.item() == {1: 0, 2: 3, 4: 7, 5: 8}[opened]


def test_a_query_of_zeros_opens_clusters_by_number() -> None:
    world = World.random(np.random.default_rng(0), [1] * 300, 4, all_of(300))
    world = replace(world, ivf=replace(world.ivf, rows=torch.arange(300, dtype=torch.int32)))
    got = world.search(torch.zeros((1, 1, 4)), [10], [20])
    assert got.positions.flatten().tolist() == [*range(10), *[-1] * 10]


def test_one_item_is_found_or_nothing_is() -> None:
    query = torch.zeros((1, 1, 4))
    for passes, expected in ((True, [0, -1]), (False, [-1, -1])):
        world = World.random(np.random.default_rng(0), [1], 4, torch.tensor([[passes]]))
        got = world.search(query, [5], [2])
        assert got.positions.flatten().tolist() == expected
        assert got.scored.item() == got.sampled.item() == int(passes)


def test_of_equal_scores_the_smaller_rows_are_kept() -> None:
    n = 40_000
    world = World.random(np.random.default_rng(1), [n], 2, all_of(n))
    world = world.of_codes(torch.ones((n, 2), dtype=torch.int8))
    world = replace(world, ivf=replace(world.ivf, scales=torch.ones(n)))
    got = world.search(torch.ones((1, 1, 2)), [n], [100])
    assert world.ivf.rows[got.positions.flatten()].tolist() == list(range(100))


@pytest.mark.parametrize("d", [768, 4096, 70_000])
def test_totals_are_exact_where_codes_are_saturated(d: int) -> None:
    rng = np.random.default_rng(d)
    items = rng.choice(np.array([-127, 127], np.int8), (100, d))
    items[:40] = 127
    items[np.arange(40), rng.integers(0, d, 40)] = 126  # neighbours that a rounded sum would confuse
    world = World.random(rng, [100], d, all_of(100))
    world = world.of_codes(torch.from_numpy(items))
    ivf = replace(world.ivf, scales=torch.ones(100), rows=torch.arange(100, dtype=torch.int32))
    got = replace(world, ivf=ivf).search(torch.ones((1, 1, d)), [100], [100])
    totals = 256 * items.astype(np.int64).sum(1) * 32512
    scale = float(quantize_reference(torch.ones(1)).scales)
    expected = sorted(range(100), key=lambda p: (-float(np.float32(float(totals[p]) * scale)), p))
    assert got.positions.flatten().tolist() == expected


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("budget", [800, _UNLIMITED])
@pytest.mark.parametrize("depth", [1, 300, 5000])
@pytest.mark.parametrize("sizes", [[2_000, 1, 5_000, 0, 3_000], [i * 7 % 41 for i in range(500)]])
def test_many_items_give_the_best_of_what_is_opened(
    share: float, budget: int, depth: int, sizes: list[int]
) -> None:
    rng = np.random.default_rng(9)
    clusters = len(sizes)
    passing = torch.from_numpy(rng.random((3, sum(sizes))) < share)
    world = World.random(rng, sizes, 8, passing, largest=127)
    vectors = codes(rng, (3, 2, 8), 127).float()
    queries, residuals, scales = quantize_reference(vectors).contiguous()
    got = world.search(vectors, [budget] * 3, [depth] * 3)
    ivf = world.ivf
    rows, coarse = ivf.rows.numpy(), coarse_values(ivf.codes).numpy()
    fine = fine_values(ivf.codes, ivf.residuals).numpy()
    for i in range(3):
        for j in range(2):
            scores = (coarse @ queries[i, j].double().numpy()).astype(np.float32) * ivf.scales.numpy()
            ranked = np.lexsort((rows, -scores))
            totals = fine @ fine_values(queries[i, j], residuals[i, j]).numpy()
            similarities = (totals * ivf.scales.double().numpy() * scales[i, j].double().item()).astype(
                np.float32
            )
            members = np.repeat(np.arange(clusters), sizes)
            order = [c for _, c in sorted((-probed(ivf, queries[i, j], c), c) for c in range(clusters))]
            chosen = set(order[: int(got.opened[i, j])])
            pool = [p for p in ranked.tolist() if passing[i, p] and members[p] in chosen][: 2 * depth]
            best = sorted(pool, key=lambda p: (-similarities[p], rows[p]))[:depth]
            assert got.positions[i, j].tolist() == best + [-1] * (depth - len(best))


def probed(ivf: IvfTensors, query: Tensor, cluster: int) -> float:
    length = np.float32(np.sqrt(np.square(query.numpy().astype(np.float64)).sum()))
    score = np.float32(dot(query.tolist(), ivf.centroids[cluster])) * ivf.centroid_scales[cluster].numpy()
    return float(score + length * ivf.centroid_spreads[cluster].numpy())


def test_excluded_items_are_no_survivors() -> None:
    world = World.random(np.random.default_rng(3), [700], 4, all_of(700, 2))
    excluded = torch.tensor([[5, 5, 699, -1], [-1, -1, -1, -1]])
    world = replace(world, programs=replace(world.programs, excluded=excluded))
    got = world.search(torch.ones((2, 1, 4)), [700] * 2, [700] * 2)
    assert sorted(set(range(700)) - set(got.positions[0, 0].tolist())) == [5, 699]
    assert got.scored.flatten().tolist() == [698, 700]


@pytest.mark.parametrize("n", [0, 1, 2, SAMPLE - 1, SAMPLE, SAMPLE + 1, 10 * SAMPLE + 7, 2**31 - 1])
def test_the_sample_stands_at_even_distances(n: int) -> None:
    positions = sample_positions(n).tolist()
    assert len(set(positions)) == min(n, SAMPLE)
    assert positions == sorted(positions)
    if n > SAMPLE:
        gaps = np.diff([-positions[0], *positions, 2 * n - positions[-1]])
        assert max(gaps) - min(gaps) <= 2
    elif n:
        assert positions == list(range(n))


def test_the_sample_counts_what_passes_of_it() -> None:
    n = 5000
    passing = torch.zeros((1, n), dtype=torch.bool)
    passing[0, sample_positions(n)[:100]] = True
    passing[0, [p for p in range(2000) if p not in set(sample_positions(n).tolist())]] = True
    world = World.random(np.random.default_rng(0), [n], 4, passing)
    got = world.search(torch.ones((1, 1, 4)), [10], [10])
    assert got.sampled.item() == 100


def test_shapes_that_do_not_fit_are_refused() -> None:
    world = World.random(np.random.default_rng(0), [2, 3], 4, all_of(5))
    query = torch.zeros((1, 1, 4))
    with pytest.raises(ValueError, match=r"centroids must be \[2, 3\] int8, got \[2, 4\]"):
        world.search(query[..., :3], [1], [1])
    with pytest.raises(ValueError, match=r"budget must be \[1\] int64, got \[2\]"):
        world.search(query, [1, 2], [1])
    with pytest.raises(ValueError, match=r"scales must be \[5\] float32"):
        replace(world, ivf=replace(world.ivf, scales=torch.ones(5).double())).search(query, [1], [1])
    wide = torch.zeros((5, 8), dtype=torch.int8)[:, ::2]
    if library.level() != "reference":
        with pytest.raises(ValueError, match="codes must be contiguous"):
            replace(world, ivf=replace(world.ivf, codes=wide)).search(query, [1], [1])


def test_a_search_counts_clusters_items_and_the_sample() -> None:
    world = World.random(np.random.default_rng(0), [2, 3], 4, all_of(5))
    found = world.search(torch.ones((1, 1, 4)), [10], [5])
    assert found.sampled.tolist() == [5]
    assert (found.opened.tolist(), found.scored.tolist()) == ([[2]], [[5]])
    assert found.similarities.shape == found.positions.shape == (1, 1, 5)


def test_limits_that_make_no_sense_are_refused() -> None:
    world = World.random(np.random.default_rng(0), [2, 3], 4, all_of(5))
    query = torch.zeros((1, 1, 4))
    for limits, told in (
        (Limits(torch.tensor([-1]), torch.tensor([1]), torch.tensor([1]), 1), "budget"),
        (Limits(torch.tensor([1]), torch.tensor([-1]), torch.tensor([1]), 1), "probes"),
        (Limits(torch.tensor([1]), torch.tensor([1]), torch.tensor([2]), 1), "candidates"),
        (Limits(torch.tensor([1]), torch.tensor([1]), torch.tensor([-1]), 1), "candidates"),
        (Limits(torch.tensor([1]), torch.tensor([1]), torch.tensor([1]), 0), "rescored"),
    ):
        with pytest.raises(ValueError, match=told):
            search(query, world.ivf, world.filter, world.programs, limits, 1)
