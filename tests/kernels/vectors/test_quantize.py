from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from meshfold.kernels.native import library
from meshfold.kernels.vectors.quantize import FINE_MAX, dequantize, fine_values, quantize

DIMENSIONS = (1, 63, 64, 100, 768)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.fixture(autouse=True, scope="module", params=library.levels())
def _level(request: pytest.FixtureRequest) -> Iterator[None]:
    with library.forced(request.param):
        yield


def vectors(d: int, seed: int = 0) -> Tensor:
    """Vectors of every size that float32 has, and of zeros."""
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal((12, d)).astype(np.float32)
    drawn /= np.abs(drawn).max(1, keepdims=True)
    sizes = np.array([0, 1e-45, 1e-41, 1.2e-38, 1e-20, 1e-3, 1, 7, 1e9, 1e20, 1e37, 3.4e38], np.float32)
    return torch.from_numpy(drawn * sizes[:, None])


@pytest.mark.parametrize("d", DIMENSIONS)
def test_each_element_is_the_formula_in_float64(d: int) -> None:
    x = vectors(d)
    got = quantize(x)
    for i, row in enumerate(x.tolist()):
        largest = max(abs(value) for value in row)
        fine = [round(value / largest * FINE_MAX) if largest else 0 for value in row]
        codes = [(value + 128) // 256 for value in fine]
        assert got.codes[i].tolist() == codes
        assert got.residuals[i].tolist() == [f - 256 * c for f, c in zip(fine, codes, strict=True)]
        assert got.scales[i].item() == np.float32(largest / FINE_MAX)


@settings(deadline=None, max_examples=200)
@given(st.lists(finite, min_size=1, max_size=8))
def test_a_fine_value_is_the_nearest_integer_of_exact_arithmetic(row: list[float]) -> None:
    got = quantize(torch.tensor(row, dtype=torch.float32))
    fine = fine_values(got.codes, got.residuals).tolist()
    largest = max(abs(Fraction(value)) for value in row)
    for value, near in zip(row, fine, strict=True):
        exact = Fraction(value) / largest * FINE_MAX if largest else Fraction(0)
        # Two roundings in float64 may move a value that lies next to a half.
        assert abs(exact - int(near)) <= Fraction(1, 2) + Fraction(1, 2**36)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_codes_and_fine_values_stay_in_their_ranges(d: int) -> None:
    x = torch.cat([vectors(d, 1), torch.full((1, d), 3.4e38), torch.full((1, d), -1e-45)])
    got = quantize(x)
    fine = fine_values(got.codes, got.residuals)
    assert got.codes.min() >= -127
    assert fine.abs().max() == FINE_MAX
    assert fine[-2].eq(FINE_MAX).all()
    assert fine[-1].eq(-FINE_MAX).all()
    assert got.codes[-1].eq(-127).all()


@pytest.mark.parametrize("d", DIMENSIONS)
def test_a_vector_comes_back_within_half_a_unit(d: int) -> None:
    x = vectors(d, 2)
    got = quantize(x)
    error = (dequantize(got).double() - x.double()).abs()
    # Half a scale, the result's rounding to float32, and the scale's own, which is coarse among denormals.
    denormal = FINE_MAX * 2.0**-150
    bound = got.scales.double()[:, None] / 2 + x.double().abs() * 2.0**-23 + denormal
    assert (error <= bound).all()


@pytest.mark.parametrize("d", DIMENSIONS)
def test_a_vector_of_zeros_is_all_zero(d: int) -> None:
    got = quantize(torch.tensor([0.0, -0.0] * d)[:d])
    assert not got.codes.any()
    assert not got.residuals.any()
    assert got.scales.item() == 0
    assert not dequantize(got).any()


@pytest.mark.parametrize("d", DIMENSIONS)
def test_the_company_of_a_vector_changes_nothing(d: int) -> None:
    x = vectors(d, 3)
    whole = quantize(x.reshape(2, 3, 2, d))
    assert whole.codes.shape == (2, 3, 2, d)
    assert whole.scales.shape == (2, 3, 2)
    for i, row in enumerate(x):
        alone = quantize(row)
        assert torch.equal(alone.codes, whole.codes.reshape(-1, d)[i])
        assert torch.equal(alone.residuals, whole.residuals.reshape(-1, d)[i])
        assert torch.equal(alone.scales, whole.scales.reshape(-1)[i])
    assert quantize(x[:0]).codes.shape == (0, d)


def test_a_power_of_two_scales_the_unit_alone() -> None:
    x = vectors(64, 4)[5:8]
    one, other = quantize(x), quantize(x * 2.0**40)
    assert torch.equal(one.codes, other.codes)
    assert torch.equal(one.residuals, other.residuals)
    assert torch.equal(one.scales * 2.0**40, other.scales)


@pytest.mark.parametrize("x", [torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.int8)])
def test_only_float32_is_quantized(x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"vectors must be \[..., D\] float32, got \[3\]"):
        quantize(x)
    for other in (torch.tensor(1.0), torch.empty((3, 0))):
        with pytest.raises(ValueError, match="vectors must be"):
            quantize(other)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_values_halfway_between_two_round_to_even(d: int) -> None:
    # 32,512 is 63.5 * 512, so that of 2^15 as the largest, 64 is worth 63.5, and no step before rounds.
    odd = torch.arange(-511, 512, 2)
    rows = odd[torch.arange(40 * d) % len(odd)].reshape(40, d).float()
    x = torch.cat([rows * 64, torch.full((40, 1), 2.0**15)], 1)
    got = quantize(x)
    fine = fine_values(got.codes, got.residuals)[:, :-1]
    assert fine.tolist() == [[round(value * 63.5) for value in row] for row in rows.tolist()]


def test_a_view_is_quantized_as_its_copy() -> None:
    x = vectors(64, 5).T
    one, other = quantize(x), quantize(x.contiguous())
    assert torch.equal(one.codes, other.codes)
    assert torch.equal(one.residuals, other.residuals)
    assert torch.equal(one.scales, other.scales)
