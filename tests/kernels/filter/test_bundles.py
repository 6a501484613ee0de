import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from meshfold.kernels.filter import bundles
from meshfold.kernels.filter.bundles import (
    ITEMS,
    WORDS,
    contains,
    count,
    gathered,
    held_in,
    pack,
    unpack,
    without,
)

SIZES = (1, 63, 64, 65, 511, 512, 513, 1000)


def members(n: int, seed: int, share: float = 0.5) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(n) < share)


@pytest.mark.parametrize(("items", "bundles"), [(0, 0), (1, 1), (511, 1), (512, 1), (513, 2), (1024, 2)])
def test_a_bundle_holds_512_items(items: int, bundles: int) -> None:
    assert count(items) == bundles


@pytest.mark.parametrize("n", SIZES)
def test_what_is_packed_comes_out_again(n: int) -> None:
    for seed, share in enumerate((0.0, 0.03, 0.5, 1.0)):
        one = members(n, seed, share)
        words = pack(one)
        assert words.shape == (count(n), WORDS)
        assert torch.equal(unpack(words, n), one)


@pytest.mark.parametrize("n", SIZES)
def test_bits_past_the_last_item_are_zero(n: int) -> None:
    everything = unpack(pack(torch.ones(n, dtype=torch.bool)), count(n) * ITEMS)
    assert everything[:n].all()
    assert not everything[n:].any()


def test_a_bit_stands_where_the_docstring_says() -> None:
    for position in (0, 1, 62, 63, 64, 511, 512, 700):
        words = pack(torch.arange(1000) == position)
        group, rest = divmod(position, 512)
        word, bit = divmod(rest, 64)
        value = 1 << bit
        assert words[group, word].item() == (value if bit < 63 else value - 2**64)
        assert torch.count_nonzero(words) == 1


@pytest.mark.parametrize("n", SIZES)
def test_contains_agrees_with_unpack_in_any_shape(n: int) -> None:
    one = members(n, 7)
    at = torch.from_numpy(np.random.default_rng(8).integers(0, n, (3, 5)))
    assert torch.equal(contains(pack(one), at), one[at])
    assert contains(pack(one), at[:0]).shape == (0, 5)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(SIZES), st.integers(0, 1000), st.lists(st.integers(-1, 999), max_size=40), st.booleans()
)
def test_without_takes_out_just_the_positions_named(n: int, seed: int, named: list[int], twice: bool) -> None:
    named = [min(p, n - 1) for p in named] * (2 if twice else 1)
    one = members(n, seed)
    expected = one.clone()
    for position in named:
        if position >= 0:
            expected[position] = False
    words = pack(one)
    before = words.clone()
    assert torch.equal(unpack(without(words, torch.tensor(named, dtype=torch.int64)), n), expected)
    assert torch.equal(words, before), "the set that was given has changed"


@pytest.mark.parametrize("n", SIZES)
def test_members_are_counted_between_offsets(n: int) -> None:
    sets = [members(n, seed, share) for seed, share in enumerate((0.0, 0.5, 1.0))]
    rng = np.random.default_rng(n)
    offsets = np.sort(np.concatenate([[0, 0, n, n], rng.integers(0, n + 1, 20)]))
    held = held_in(torch.stack([pack(own) for own in sets]), torch.from_numpy(offsets))
    wanted = [[int(own[a:b].sum()) for a, b in itertools.pairwise(offsets)] for own in sets]
    assert held.tolist() == wanted


@pytest.mark.parametrize("n", SIZES)
def test_runs_of_bits_lie_back_to_back(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "_BUNDLES_AT_A_TIME", 2)
    rows = [members(n, seed, share) for seed, share in enumerate((0.5, 0.03, 1.0))]
    signature = torch.stack([pack(row) for row in rows], 1)
    rng = np.random.default_rng(n)
    for runs in (0, 1, 3, 40):
        starts = rng.integers(0, n, runs)
        lengths = np.array([rng.integers(0, n - start + 1) for start in starts], np.int64)
        made = gathered(signature, torch.from_numpy(starts), torch.from_numpy(lengths))
        total = int(lengths.sum())
        assert made.shape == (count(total), 3, WORDS)
        for row, own in enumerate(rows):
            pieces = [own[a : a + size] for a, size in zip(starts, lengths, strict=True)]
            wanted = torch.cat(pieces) if runs else own[:0]
            # Past the last bit there is none.
            whole = unpack(made[:, row].contiguous(), count(total) * ITEMS)
            assert torch.equal(whole[:total], wanted)
            assert not whole[total:].any()
