import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.kernels.search.coarse import coarse_values, pack_coarse, packed_bytes


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), n=st.sampled_from([0, 1, 7, 16_384, 16_385]), d=st.integers(1, 9))
def test_a_byte_holds_a_value_of_the_first_half_and_one_of_the_second(seed: int, n: int, d: int) -> None:
    codes = torch.from_numpy(np.random.default_rng(seed).integers(-128, 128, (n, d)).astype(np.int8))
    packed = pack_coarse(codes).int()
    width = packed_bytes(d)
    assert packed.shape == (n, width)
    halves = torch.cat([packed & 15, packed >> 4], 1)
    assert torch.equal(halves[:, :d] - 8, codes.int() // 16)
    assert (halves[:, d:] == 0).all()


@pytest.mark.parametrize("code", [-128, -127, -16, -1, 0, 15, 16, 127])
def test_a_value_is_twice_the_middle_of_the_codes_that_share_its_bits(code: int) -> None:
    shared = [c for c in range(-128, 128) if c // 16 == code // 16]
    value = coarse_values(torch.tensor([code], dtype=torch.int8)).item()
    assert value == min(shared) + max(shared)
