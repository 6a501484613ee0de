from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from meshfold.compat.shadow.comparison import Interval
from meshfold.compat.shadow.intervals import binomial_bounds, bootstrap, user_means


def overlaps(
    generator: np.random.Generator, users: int, zeros: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pairs (user, overlap): Zipf pairs a user, every user with a level of its own, and a share of pairs at 0.

    Levels have mean 0.8; so the mean over users is 0.8 (1 - zeros).
    """
    sizes = np.minimum(generator.zipf(1.8, users), 200)
    rows = np.repeat(np.arange(users), sizes)
    levels, zero_shares = generator.beta(8, 2, users), generator.beta(2 * zeros, 2 * (1 - zeros), users)
    hits = generator.binomial(100, levels[rows]) / 100
    return rows, np.where(generator.random(len(rows)) < zero_shares[rows], 0.0, hits)


@pytest.mark.long
@pytest.mark.parametrize(("users", "zeros"), [(200, 0.1), (200, 0.5), (60, 0.3)])
def test_intervals_cover_the_truth(users: int, zeros: float) -> None:
    generator = np.random.default_rng(3)
    covered = 0
    for run in range(1000):
        rows, values = overlaps(generator, users, zeros)
        [interval] = bootstrap(user_means(rows, values[:, None], users), 1000, run)
        covered += interval.low <= 0.8 * (1 - zeros) <= interval.high
    assert 930 <= covered <= 970


def test_a_user_with_many_pairs_is_one_value() -> None:
    users = np.array([0, 0, 0, 0, 1, 2, 2])
    values = np.array([[1.0], [1.0], [1.0], [0.0], [0.5], [math.nan], [math.nan]])
    means = user_means(users, values, 4)
    np.testing.assert_array_equal(means, [[0.75], [0.5], [math.nan], [math.nan]])


def test_an_interval_is_the_same_each_time_and_narrower_with_more_users() -> None:
    values = np.random.default_rng(0).random((4000, 2))
    values[::2, 1] = math.nan
    few, many = bootstrap(values[:40], 500, 7), bootstrap(values, 500, 7)
    assert few == bootstrap(values[:40], 500, 7)
    for narrow, wide in zip(many, few, strict=True):
        assert narrow.low < narrow.value < narrow.high
        assert 5 < (wide.high - wide.low) / (narrow.high - narrow.low) < 20
    # A normal interval of 4,000 users, half of whom have a value in the second column.
    assert many[1].value == values[1::2, 1].mean()
    width = 2 * 1.96 * values[1::2, 1].std() / math.sqrt(2000)
    assert many[1].high - many[1].low == pytest.approx(width, rel=0.1)


def test_columns_with_few_users_or_one_value() -> None:
    values = np.full((30, 3), 0.5)
    values[:, 1] = math.nan
    values[9:, 2] = math.nan
    same, none, few = bootstrap(values, 200, 0)
    assert same == Interval(0.5, 0.5, 0.5)
    assert math.isnan(none.value)
    assert few.value == 0.5
    assert math.isnan(few.low)
    assert math.isnan(few.high)
    [empty] = bootstrap(np.empty((0, 1)), 200, 0)
    assert math.isnan(empty.value)


@pytest.mark.parametrize(("count", "of"), [(0, 50), (50, 50), (3, 1000), (1, 1)])
def test_binomial_bounds_are_where_the_tails_hold_a_fortieth(count: int, of: int) -> None:
    low, high = binomial_bounds(count, of)
    assert low == 0 if count == 0 else binom.sf(count - 1, of, low) == pytest.approx(0.025)
    assert high == 1 if count == of else binom.cdf(count, of, high) == pytest.approx(0.025)
    assert binomial_bounds(0, 0) == (0.0, 1.0)
