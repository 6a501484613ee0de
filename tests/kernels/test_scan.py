import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from meshfold.kernels.bundles import pack
from meshfold.kernels.scan import Scanned, scan


@dataclass(frozen=True, eq=False)
class Index:
    """Items by position; small codes and units of powers of two, so that many scores tie exactly."""

    codes: Tensor
    units: Tensor
    rows: Tensor
    offsets: Tensor

    @staticmethod
    def random(rng: np.random.Generator, sizes: Sequence[int], d: int, largest: int = 2) -> "Index":
        n = sum(sizes)
        return Index(
            torch.from_numpy(rng.integers(-largest, largest + 1, (n, d)).astype(np.int8)),
            torch.from_numpy(rng.choice(np.array([0.5, 1, 2], np.float32), n)),
            torch.from_numpy(rng.permutation(n).astype(np.int32)),
            torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)),
        )

    def scan(
        self, queries: Tensor, order: Tensor, passing: Tensor, budget: Sequence[int], depth: Sequence[int]
    ) -> Scanned:
        """passing: [B, N] bool."""
        return scan(
            queries,
            order,
            torch.stack([pack(members) for members in passing]),
            self.codes,
            self.units,
            self.rows,
            self.offsets,
            torch.tensor(budget),
            torch.tensor(depth),
            max(depth),
        )

    def slow(
        self, query: list[int], order: list[int], passing: list[bool], budget: int, depth: int
    ) -> tuple[list[int], int, int]:
        """(positions, opened, scored) by the docstring, one item after the other."""
        chosen: list[int] = []
        opened = 0
        for cluster in order:
            opened += 1
            span = range(int(self.offsets[cluster]), int(self.offsets[cluster + 1]))
            chosen += [p for p in span if passing[p]]
            if len(chosen) >= budget:
                break

        def rank(position: int) -> tuple[float, int]:
            total = sum(a * b for a, b in zip(query, self.codes[position].tolist(), strict=True))
            score = np.float32(total) * self.units[position].numpy()
            return -float(score), int(self.rows[position])

        return sorted(chosen, key=rank)[:depth], opened, len(chosen)


def check(
    index: Index, queries: Tensor, order: Tensor, passing: Tensor, budget: list[int], depth: list[int]
) -> None:
    got = index.scan(queries, order, passing, budget, depth)
    b, t, _ = queries.shape
    assert got.positions.shape == (b, t, max(depth))
    for i in range(b):
        for j in range(t):
            best, opened, scored = index.slow(
                queries[i, j].tolist(), order[i, j].tolist(), passing[i].tolist(), budget[i], depth[i]
            )
            assert got.positions[i, j].tolist() == best + [-1] * (max(depth) - len(best))
            assert got.opened[i, j].item() == opened
            assert got.scored[i, j].item() == scored


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.sampled_from([0, 0, 1, 2, 5, 30]), min_size=1, max_size=8).filter(any),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    budget=st.lists(st.integers(1, 80), min_size=3, max_size=3),
    depth=st.lists(st.integers(1, 40), min_size=3, max_size=3),
)
def test_it_is_the_docstring_item_by_item(
    seed: int, sizes: list[int], share: float, budget: list[int], depth: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    index = Index.random(rng, sizes, 3)
    queries = torch.from_numpy(rng.integers(-2, 3, (3, 2, 3)).astype(np.int8))
    order = torch.from_numpy(rng.permuted(np.tile(np.arange(len(sizes)), (3, 2, 1)), axis=-1))
    check(index, queries, order, torch.from_numpy(rng.random((3, sum(sizes))) < share), budget, depth)


@pytest.mark.parametrize(("budget", "opened"), [(1, 2), (3, 2), (4, 4), (7, 4), (8, 5), (9, 5), (1000, 5)])
def test_the_shortest_run_that_meets_the_budget_is_opened(budget: int, opened: int) -> None:
    # Clusters in probe order hold 0, 3, 0, 4 and 1 survivors.
    index = Index.random(np.random.default_rng(0), [0, 3, 0, 4, 1], 2)
    got = index.scan(
        torch.ones((1, 1, 2), dtype=torch.int8),
        torch.arange(5).view(1, 1, 5),
        torch.ones((1, 8), dtype=torch.bool),
        [budget],
        [8],
    )
    assert got.opened.item() == opened
    assert got.scored.item() == {2: 3, 4: 7, 5: 8}[opened]


def test_one_item_is_found_or_nothing_is() -> None:
    index = Index.random(np.random.default_rng(0), [1], 4)
    query, order = torch.zeros((1, 1, 4), dtype=torch.int8), torch.zeros((1, 1, 1), dtype=torch.int64)
    for passes, expected in ((True, [0, -1]), (False, [-1, -1])):
        got = index.scan(query, order, torch.tensor([[passes]]), [5], [2])
        assert got.positions.flatten().tolist() == expected
        assert got.scored.item() == int(passes)


def test_of_equal_scores_the_smaller_rows_are_kept() -> None:
    n = 40_000  # more than are scored at a time
    rows = np.random.default_rng(1).permutation(n).astype(np.int32)
    index = Index(
        torch.ones((n, 2), dtype=torch.int8), torch.ones(n), torch.from_numpy(rows), torch.tensor([0, n])
    )
    got = index.scan(
        torch.ones((1, 1, 2), dtype=torch.int8),
        torch.zeros((1, 1, 1), dtype=torch.int64),
        torch.ones((1, n), dtype=torch.bool),
        [n],
        [100],
    )
    assert rows[got.positions.flatten().numpy()].tolist() == list(range(100))


@pytest.mark.parametrize("d", [768, 4096])
def test_totals_are_exact_where_codes_are_saturated(d: int) -> None:
    rng = np.random.default_rng(d)
    codes = rng.choice(np.array([-127, 127], np.int8), (300, d))
    codes[:40] = 127
    codes[np.arange(40), rng.integers(0, d, 40)] = 126  # neighbours that a rounded sum would confuse
    query = np.full(d, 127, np.int8)
    totals = [sum(127 * int(c) for c in row) for row in codes]
    index = Index(
        torch.from_numpy(codes),
        torch.ones(300),
        torch.arange(300, dtype=torch.int32),
        torch.tensor([0, 300]),
    )
    got = index.scan(
        torch.from_numpy(query).view(1, 1, d),
        torch.zeros((1, 1, 1), dtype=torch.int64),
        torch.ones((1, 300), dtype=torch.bool),
        [300],
        [300],
    )
    expected = sorted(range(300), key=lambda p: (-float(np.float32(totals[p])), p))
    assert got.positions.flatten().tolist() == expected
    assert d > 1040 or all(float(np.float32(t)) == t for t in totals)
    assert math.isclose(max(totals), 127 * (127 * d - 1))


def test_more_items_than_are_scored_at_a_time_give_the_same_best() -> None:
    rng = np.random.default_rng(9)
    index = Index.random(rng, [9_000, 20_000, 11_000], 8, largest=127)
    query = torch.from_numpy(rng.integers(-127, 128, (1, 1, 8)).astype(np.int8))
    passing = torch.from_numpy(rng.random((1, 40_000)) < 0.9)
    got = index.scan(query, torch.tensor([[[2, 0, 1]]]), passing, [40_000], [500])
    totals = index.codes.numpy().astype(np.int64) @ query.numpy().ravel().astype(np.int64)
    scores = totals.astype(np.float32) * index.units.numpy()
    best = [p for p in np.lexsort((index.rows.numpy(), -scores)).tolist() if passing[0, p]][:500]
    assert got.positions.flatten().tolist() == best
    assert got.scored.item() == int(passing.sum())


def test_shapes_that_do_not_fit_are_refused() -> None:
    index = Index.random(np.random.default_rng(0), [2, 3], 4)
    query, order = torch.zeros((1, 1, 4), dtype=torch.int8), torch.zeros((1, 1, 2), dtype=torch.int64)
    passing = torch.ones((1, 5), dtype=torch.bool)
    with pytest.raises(ValueError, match=r"order must be \[1, 1, 2\] int64"):
        index.scan(query, order[..., :1], passing, [1], [1])
    with pytest.raises(ValueError, match=r"survivors must be \[1, 1, 8\] int64, got \[1, 2, 8\]"):
        index.scan(query, order, torch.ones((1, 600), dtype=torch.bool), [1], [1])
    with pytest.raises(ValueError, match=r"codes must be \[5, 3\] int8, got \[5, 4\]"):
        index.scan(query[..., :3], order, passing, [1], [1])
