from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.kernels.filter.sign import hashed_rows
from meshfold.model.filter.bloom import (
    MOST_HASHES,
    Bloom,
    ValuesPerItem,
    choose,
    false_positives,
    typical_pass_rate,
)
from meshfold.model.types import Int64s

INT64 = np.iinfo(np.int64)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(
    st.lists(st.integers(int(INT64.min), int(INT64.max)), max_size=20),
    st.integers(1, 100_000),
    st.integers(1, MOST_HASHES),
)
def test_a_query_s_rows_are_those_that_items_were_signed_with(
    values: list[int], part: int, hashes: int
) -> None:
    array = np.array(values, np.int64)
    rows = Bloom(part, hashes).rows_of(array)
    assert rows.dtype == np.int64
    assert rows.tolist() == hashed_rows(torch.from_numpy(array), part, hashes).tolist()
    assert ((rows // part) == np.arange(hashes)).all()


def measured(bloom: Bloom, lengths: Int64s) -> float:
    """By signing items and asking for values that none holds."""
    rng = np.random.default_rng(0)
    bits = np.zeros((len(lengths), bloom.rows), bool)
    owners = np.repeat(np.arange(len(lengths)), lengths)
    bits[owners[:, None], bloom.rows_of(rng.integers(0, 2**62, len(owners)))] = True
    asked = bloom.rows_of(-1 - np.arange(300))
    return float(np.mean([bits[:, rows].all(1).mean() for rows in asked]))


def zipf(n: int) -> Int64s:
    return np.minimum(np.random.default_rng(0).zipf(1.7, n), 300)


@pytest.mark.parametrize(
    "lengths",
    [np.ones(5000, int), np.arange(5000) % 7, zipf(5000), (np.arange(5000) % 10 == 0).astype(int)],
    ids=["one", "few", "zipf", "seldom"],
)
@pytest.mark.parametrize("bloom", [Bloom(12, 1), Bloom(10, 2), Bloom(20, 4), Bloom(7, 8)])
def test_false_positives_are_those_that_come(lengths: Int64s, bloom: Bloom) -> None:
    assert measured(bloom, lengths) == pytest.approx(
        false_positives(bloom, ValuesPerItem.of(lengths)), rel=0.25, abs=5e-4
    )


def test_false_positives_of_small_cases_are_known() -> None:
    assert false_positives(Bloom(4, 1), ValuesPerItem.of(np.array([0, 1]))) == pytest.approx(0.125)
    assert false_positives(Bloom(4, 2), ValuesPerItem.of(np.array([1]))) == pytest.approx(1 / 16)
    assert false_positives(Bloom(1, 3), ValuesPerItem.of(np.array([0, 5, 0, 0]))) == 0.25
    assert false_positives(Bloom(5, 2), ValuesPerItem.of(np.array([0, 0]))) == 0


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([10], 1.0), ([1] * 10, 0.1), ([6, 1, 1, 1, 1], 0.6), ([1, 1, 4, 1, 1, 1, 1], 0.1), ([1, 2], 0.2)],
)
def test_the_typical_value_is_the_middle_one_of_those_that_items_hold(
    counts: Sequence[int], expected: float
) -> None:
    assert typical_pass_rate(np.array(counts), 10) == pytest.approx(expected)


@pytest.mark.parametrize("values", [1, 4, 16, 64])
def test_what_is_seldom_held_gets_fewer_false_positives(values: int) -> None:
    per_item = ValuesPerItem.of(np.full(1000, values))
    rates = [false_positives(choose(per_item, rate), per_item) for rate in (0.3, 0.01, 0.001)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] < 0.03
    assert rates[2] < 0.006


def test_items_of_more_values_get_more_rows_and_hashes() -> None:
    blooms = [choose(ValuesPerItem.of(np.full(1000, values)), 0.01) for values in (1, 2, 4, 8, 16, 32, 64)]
    rows = [bloom.rows for bloom in blooms]
    assert rows == sorted(rows)
    assert [b.hashes for b in blooms] == sorted(b.hashes for b in blooms)
    assert rows[0] < 60
    assert all(1 <= bloom.hashes <= MOST_HASHES for bloom in blooms)


def test_a_few_items_of_many_values_do_not_widen_the_signature_of_all() -> None:
    lengths = np.ones(10_000, int)
    usual = choose(ValuesPerItem.of(lengths), 0.001)
    lengths[:20] = 500
    assert choose(ValuesPerItem.of(lengths), 0.001).rows < 2 * usual.rows


@pytest.mark.parametrize("lengths", [np.array([1]), np.array([0] * 999 + [1]), np.full(10, 3000)])
def test_odd_catalogs_get_some_rows(lengths: Int64s) -> None:
    bloom = choose(ValuesPerItem.of(lengths), 1.0)
    assert 1 <= bloom.hashes <= bloom.rows


@pytest.mark.parametrize(("part", "hashes"), [(0, 1), (1, 0), (-3, -3), (5, MOST_HASHES + 1)])
def test_rows_that_cannot_be_are_refused(part: int, hashes: int) -> None:
    with pytest.raises(ValueError, match="a field needs 1 to 8 hashes of 1 row at least"):
        Bloom(part, hashes)
