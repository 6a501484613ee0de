from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from meshfold.kernels.search.exact_search import exact_search_reference
from meshfold.kernels.vectors.quantize import Quantized, quantize
from tests.kernels.gpu.test_hard_vectors import on
from tests.kernels.hard_vectors import quantized


def check(device: torch.device, queries: Quantized, items: Quantized, rows: Tensor, depth: int) -> None:
    from meshfold.kernels.gpu.exact_search import exact_search_gpu

    moved = [Quantized(*on(device, list(vars(side).values()))) for side in (queries, items)]
    got = exact_search_gpu(moved[0], moved[1], rows.to(device), depth)
    assert torch.equal(got.cpu(), exact_search_reference(queries, items, rows, depth))
    assert got.shape == (queries.codes.shape[0], depth)


@pytest.mark.parametrize(
    ("b", "n", "d", "depth"),
    [(1, 1, 1, 1), (2, 0, 8, 0), (3, 700, 63, 100), (17, 130, 100, 130), (2, 64, 64, 7), (1, 65, 768, 10)],
)
def test_it_is_the_reference_though_many_items_tie(
    b: int, n: int, d: int, depth: int, device: torch.device
) -> None:
    rng = np.random.default_rng(n + d)
    distinct = rng.standard_normal((max(1, n // 3), d)).astype(np.float32)
    items = quantize(torch.from_numpy(distinct[rng.integers(0, len(distinct), n)]))
    queries = quantize(torch.from_numpy(rng.standard_normal((b, d)).astype(np.float32)))
    check(device, queries, items, torch.from_numpy(rng.permutation(n).astype(np.int32)), depth)


@pytest.mark.parametrize("codes", ["any", "ends", "zero"])
def test_units_of_every_size(codes: str, device: torch.device) -> None:
    rng = np.random.default_rng(1)
    queries, items = quantized(rng, (5, 100), codes), quantized(rng, (90, 100), codes)
    check(device, queries, items, torch.arange(90, dtype=torch.int32).flip(0), 90)


def test_runs_of_items_are_merged(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    from meshfold.kernels.gpu import exact_search

    # Runs of 70, of which the last is shorter than the depth.
    monkeypatch.setattr(exact_search, "_KEYS_AT_A_TIME", 3 * 70)
    rng = np.random.default_rng(2)
    queries, items = quantized(rng, (3, 8), "few"), quantized(rng, (300, 8), "few")
    check(device, queries, items, torch.from_numpy(rng.permutation(300).astype(np.int32)), 80)
