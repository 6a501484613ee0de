from collections.abc import Iterator

import numpy as np
import pytest
import torch

from meshfold.kernels.native import library
from meshfold.kernels.search.exact_search import exact_search
from meshfold.kernels.vectors.quantize import Quantized, quantize


@pytest.fixture(autouse=True, scope="module", params=library.levels())
def _level(request: pytest.FixtureRequest) -> Iterator[None]:
    with library.forced(request.param):
        yield


def slow(queries: Quantized, items: Quantized, rows: list[int], depth: int) -> list[list[int]]:
    """Integer totals, two float64 products and one rounding each, sorted by similarity and row."""
    q, x = (side.codes.numpy().astype(np.int64) * 256 + side.residuals.numpy() for side in (queries, items))
    exact = (
        (q @ x.T).astype(np.float64)
        * items.scales.double().numpy()
        * queries.scales.double().numpy()[:, None]
    )
    largest = np.finfo(np.float32).max
    similarities = np.clip(exact, -largest, largest).astype(np.float32).tolist()
    return [sorted(range(len(rows)), key=lambda p: (-of[p], rows[p]))[:depth] for of in similarities]


def check(queries: Quantized, items: Quantized, rows: torch.Tensor, depth: int) -> None:
    got = exact_search(queries, items, rows, depth)
    assert got.shape == (queries.codes.shape[0], min(depth, rows.numel()))
    assert got.tolist() == slow(queries, items, rows.tolist(), depth)


@pytest.mark.parametrize(
    ("n", "depth"), [(1, 1), (1, 5), (15, 15), (17, 3), (50, 7), (5000, 1000), (9000, 300)]
)
@pytest.mark.parametrize("d", [1, 6, 63, 100])
def test_it_is_brute_force_though_many_items_tie(n: int, depth: int, d: int) -> None:
    rng = np.random.default_rng(n + d)
    distinct = rng.standard_normal((max(1, n // 3), d)).astype(np.float32)
    items = quantize(torch.from_numpy(distinct[rng.integers(0, len(distinct), n)]))
    queries = quantize(torch.from_numpy(rng.standard_normal((3, d)).astype(np.float32)))
    check(queries, items, torch.from_numpy(rng.permutation(n).astype(np.int32)), depth)


@pytest.mark.parametrize("n", [1, 16, 4096, 4097])
def test_where_all_items_tie_the_smaller_rows_come_first(n: int) -> None:
    rows = torch.from_numpy(np.random.default_rng(n).permutation(n).astype(np.int32))
    for value in (0.0, 1.0):
        items = quantize(torch.full((n, 8), value))
        got = exact_search(quantize(torch.ones((2, 8))), items, rows, 100)
        for row in got:
            assert rows[row].tolist() == list(range(min(n, 100)))


def test_codes_at_their_ends_and_huge_units_are_ordered() -> None:
    ends = torch.tensor([-128, -127, 0, 127], dtype=torch.int8)[:, None].repeat(1, 768)
    items = Quantized(ends.repeat(2, 1), ends.flip(0).repeat(2, 1), torch.tensor([1e30, 1.0, 0, 1e30] * 2))
    queries = Quantized(ends, ends, torch.tensor([3e38, 1.0, 1e-30, 3e38]))
    check(queries, items, torch.arange(8, dtype=torch.int32).flip(0), 8)


def test_nothing_is_asked_or_searched() -> None:
    items, queries = quantize(torch.randn(9, 4)), quantize(torch.randn(3, 4))
    rows = torch.arange(9, dtype=torch.int32)
    assert exact_search(queries, items, rows, 0).shape == (3, 0)
    assert exact_search(quantize(torch.empty((0, 4))), items, rows, 5).shape == (0, 5)
    assert exact_search(queries, quantize(torch.empty((0, 4))), rows[:0], 5).shape == (3, 0)


def test_shapes_that_do_not_fit_are_refused() -> None:
    items, queries = quantize(torch.randn(9, 4)), quantize(torch.randn(3, 4))
    with pytest.raises(ValueError, match=r"rows must be \[9\] int32, got \[9\] int64"):
        exact_search(queries, items, torch.arange(9), 5)
    with pytest.raises(ValueError, match=r"items.codes must be \[9, 5\] int8, got \[9, 4\]"):
        exact_search(quantize(torch.randn(3, 5)), items, torch.arange(9, dtype=torch.int32), 5)
