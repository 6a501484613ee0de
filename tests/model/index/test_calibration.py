from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
import torch
from torch import Tensor

from meshfold.kernels.filter.bundles import WORDS, count
from meshfold.kernels.filter.steps import FilterBatch, FilterTensors
from meshfold.kernels.search.exact_search import exact_search
from meshfold.kernels.vectors.quantize import Quantized, quantize
from meshfold.model.config import IndexConfig
from meshfold.model.data.generated import item_vectors
from meshfold.model.index import calibration
from meshfold.model.index.calibration import item_like_queries, scan_budget, user_like_queries
from meshfold.model.index.ivf import IvfIndex
from meshfold.model.index.kmeans import Centroids, assign, learn_centroids, spreads
from meshfold.model.progress import silent

N, D, CLUSTERS, DEPTH = 20_000, 32, 400, 100


@dataclass(frozen=True, eq=False)
class Clustered:
    items: Quantized

    @cached_property
    def centroids(self) -> Centroids:
        return learn_centroids(self.items, CLUSTERS, 4, 0, silent)

    @cached_property
    def members(self) -> Tensor:
        return assign(self.items.codes, self.items.scales, self.centroids).members

    @cached_property
    def spreads(self) -> Tensor:
        return spreads(assign(self.items.codes, self.items.scales, self.centroids), CLUSTERS, D)

    @cached_property
    def order(self) -> Tensor:
        return torch.argsort(self.members, stable=True)

    def budget(self, **config: float) -> int:
        whole = {name: int(value) if name.endswith("depth") else value for name, value in config.items()}
        settings = IndexConfig(**{"recall_depth": DEPTH, "max_scan_share": 1.0, **whole})  # type: ignore[arg-type]
        return scan_budget(
            self.items, self.members, self.centroids, self.spreads, settings, silent, torch.device("cpu")
        )

    def recall(self, queries: Tensor, budget: int) -> float:
        """The share of the exact search's results in the clusters that a search of the index opens."""
        offsets = torch.cat(
            [torch.zeros(1, dtype=torch.int64), torch.bincount(self.members, minlength=CLUSTERS).cumsum(0)]
        )
        index = IvfIndex(
            Quantized(
                self.items.codes[self.order], self.items.residuals[self.order], self.items.scales[self.order]
            ),
            self.order.int(),
            self.centroids.codes,
            self.centroids.scales,
            self.spreads,
            offsets,
            budget,
        )
        filter_ = FilterTensors(torch.empty((count(N), 0, WORDS), dtype=torch.int64), [], [])
        wanted = exact_search(quantize(queries), self.items, torch.arange(N, dtype=torch.int32), DEPTH)
        found = 0
        for query, best in zip(queries, wanted, strict=True):
            # As many candidates as the budget, so that codes lose nothing of what was opened.
            scanned = index.search(
                query.view(1, 1, D),
                filter_,
                FilterBatch.everything(1),
                torch.tensor([budget // 2]),
                budget // 2,
            )
            opened = self.order[scanned.positions.flatten()[scanned.positions.flatten() >= 0]]
            found += len(set(best.tolist()) & set(opened.tolist()))
        return found / (DEPTH * len(queries))


@pytest.fixture(scope="module")
def clustered() -> Clustered:
    return Clustered(quantize(torch.from_numpy(np.concatenate(list(item_vectors(N, D))))))


def test_few_items_are_all_scored(clustered: Clustered) -> None:
    some = slice(0, 1000)
    items = Quantized(
        clustered.items.codes[some], clustered.items.residuals[some], clustered.items.scales[some]
    )
    got = scan_budget(
        items,
        clustered.members[some],
        clustered.centroids,
        clustered.spreads,
        IndexConfig(),
        silent,
        torch.device("cpu"),
    )
    assert got == calibration.SMALLEST_BUDGET >= 1000


@pytest.mark.parametrize("target", [0.8, 0.95])
def test_the_budget_reaches_the_target_and_hardly_more(
    clustered: Clustered, monkeypatch: pytest.MonkeyPatch, target: float
) -> None:
    monkeypatch.setattr(calibration, "SMALLEST_BUDGET", 64)
    budget = clustered.budget(target_recall=target)
    assert 64 < budget < N / 2
    seen, unseen = [], []
    for kind, draw in enumerate((item_like_queries, user_like_queries)):
        seen.append(clustered.recall(draw(clustered.items, calibration.QUERIES, kind), budget))
        unseen.append(clustered.recall(draw(clustered.items, 64, 1000 + kind), budget))
    # Candidates are half the budget, which costs the search a little of what it opened.
    assert target - 0.02 <= min(seen) <= target + 0.03
    assert min(unseen) > target - 0.06
    assert (
        min(
            clustered.recall(draw(clustered.items, 64, 5), budget // 4)
            for draw in (item_like_queries, user_like_queries)
        )
        < target - 0.05
    )


def test_a_higher_target_takes_a_larger_budget(clustered: Clustered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "SMALLEST_BUDGET", 64)
    budgets = [clustered.budget(target_recall=target) for target in (0.0, 0.5, 0.9, 0.99, 1.0)]
    assert budgets == sorted(budgets)
    assert budgets[0] < budgets[-1] <= N


def test_no_more_are_scored_than_is_allowed(clustered: Clustered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "SMALLEST_BUDGET", 64)
    largest = int(torch.bincount(clustered.members).max())
    for share in (0.05, 0.1, 0.25):
        budget = clustered.budget(target_recall=1.0, max_scan_share=share)
        # A search may open one cluster beyond its budget less one.
        assert budget + largest - 1 <= share * N
        assert budget > share * N / 2
    assert clustered.budget(target_recall=1.0, max_scan_share=0.0) == 64


def test_another_order_of_the_items_gives_the_same_exact_results(clustered: Clustered) -> None:
    queries = quantize(user_like_queries(clustered.items, 8, 3))
    one = exact_search(queries, clustered.items, torch.arange(N, dtype=torch.int32), DEPTH)
    shuffled = torch.from_numpy(np.random.default_rng(0).permutation(N))
    items = Quantized(
        clustered.items.codes[shuffled], clustered.items.residuals[shuffled], clustered.items.scales[shuffled]
    )
    assert torch.equal(shuffled[exact_search(queries, items, shuffled.int(), DEPTH)], one)


def test_queries_are_those_of_their_seed(clustered: Clustered) -> None:
    for draw in (item_like_queries, user_like_queries):
        assert torch.equal(draw(clustered.items, 9, 4), draw(clustered.items, 9, 4))
        assert not torch.equal(draw(clustered.items, 9, 4), draw(clustered.items, 9, 5))
        assert draw(clustered.items, 9, 4).shape == (9, D)
