from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch

from meshfold.kernels.native import library
from meshfold.kernels.vectors.cluster_sums import FACTOR_MAX, cluster_sums


@pytest.fixture(autouse=True, scope="module", params=library.levels())
def _level(request: pytest.FixtureRequest) -> Iterator[None]:
    with library.forced(request.param):
        yield


@pytest.mark.parametrize("d", [1, 7, 8, 63, 64, 100])
@pytest.mark.parametrize("scale", [1e-9, 0.5, 1000.0, FACTOR_MAX])
def test_it_is_the_sum_of_rounded_products(d: int, scale: float) -> None:
    rng = np.random.default_rng(d)
    codes = rng.integers(-128, 128, (90, d)).astype(np.int8)
    factors = rng.uniform(-scale, scale, 90)
    members = rng.integers(0, 12, 90)
    members[members == 5] = 6
    expected = [[0] * d for _ in range(12)]
    for row, factor, member in zip(codes.tolist(), factors.tolist(), members.tolist(), strict=True):
        for j, code in enumerate(row):
            expected[member][j] += round(code * factor)
    tensors = (torch.from_numpy(codes), torch.from_numpy(factors), torch.from_numpy(members))
    assert cluster_sums(*tensors, 12).tolist() == expected
    assert not any(expected[5])


def test_halves_round_to_even() -> None:
    codes = torch.arange(-128, 128, dtype=torch.int8).unsqueeze(1)
    got = cluster_sums(codes, torch.full((256,), 0.5, dtype=torch.float64), torch.arange(256), 256)
    assert got.flatten().tolist() == [round(Fraction(code, 2)) for code in range(-128, 128)]


def test_sums_of_the_largest_values_are_exact() -> None:
    n = 5000
    for code in (-128, 127):
        codes = torch.full((n, 3), code, dtype=torch.int8)
        got = cluster_sums(codes, torch.full((n,), FACTOR_MAX, dtype=torch.float64), torch.zeros(n).long(), 1)
        assert got.tolist() == [[n * code * 2**23] * 3]


def test_nothing_is_summed_to_zeros() -> None:
    none = torch.empty(0, dtype=torch.int64)
    got = cluster_sums(torch.empty((0, 4), dtype=torch.int8), none.double(), none, 3)
    assert got.tolist() == [[0] * 4] * 3


@pytest.mark.parametrize("member", [-1, 3, 2**40, -(2**63)])
def test_a_cluster_that_is_not_there_is_refused(member: int) -> None:
    codes, factors = torch.ones((2, 4), dtype=torch.int8), torch.ones(2, dtype=torch.float64)
    with pytest.raises(ValueError, match="members must lie in 0 to 2"):
        cluster_sums(codes, factors, torch.tensor([0, member]), 3)


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), -float("inf"), FACTOR_MAX * 1.0000001])
def test_a_factor_that_leaves_32_bits_is_refused(factor: float) -> None:
    codes = torch.ones((2, 4), dtype=torch.int8)
    with pytest.raises(ValueError, match=r"factors must lie in -2\^23 to 2\^23"):
        cluster_sums(codes, torch.tensor([0.0, factor], dtype=torch.float64), torch.tensor([0, 1]), 3)


def test_shapes_that_do_not_fit_are_refused() -> None:
    codes, factors = torch.ones((2, 4), dtype=torch.int8), torch.ones(2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"members must be \[2\] int64, got \[1\] int64"):
        cluster_sums(codes, factors, torch.tensor([0]), 3)
    with pytest.raises(ValueError, match=r"factors must be \[2\] float64, got \[2\] float32"):
        cluster_sums(codes, factors.float(), torch.tensor([0, 1]), 3)
