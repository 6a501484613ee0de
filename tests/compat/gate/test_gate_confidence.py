from __future__ import annotations

import math

import numpy as np
import pytest

from meshfold.compat.gate.confidence import Wrong, bounds_of, double_bounds, mean_bounds
from meshfold.compat.gate.user_means import UserMeans

WRONG = Wrong(0.01, 0.01)
SPAN = (-1.0, 1.0)


def test_bounds_hold_at_all_looks_together() -> None:
    """Users whose value is their mean so far; a mean of 0.9, which a third of the users make."""
    generator = np.random.default_rng(0)
    missed = [0, 0]
    for _ in range(200):
        values = (generator.random(2000) >= 0.1).astype(np.float64)
        told = [mean_bounds(values[:count], (0.0, 1.0), 0.02, WRONG) for count in range(100, 2001, 50)]
        missed[0] += any(bounds.low > 0.9 for bounds in told)
        missed[1] += any(bounds.high < 0.9 for bounds in told)
    # 2 each are expected at most; 7 or more have a chance of under 1 %.
    assert max(missed) < 7


def test_a_loss_that_no_user_has_shown_yet_is_possible() -> None:
    bounds = mean_bounds(np.zeros(300), SPAN, 0.02, WRONG)
    # A hundredth of the users may lose everything.
    assert bounds.low < -0.01
    assert bounds.low == -bounds.high
    assert mean_bounds(np.zeros(5000), SPAN, 0.02, WRONG).low > -0.002


def test_bounds_narrow_with_users_and_widen_with_certainty() -> None:
    widths = [bounds_of(0.0, 0.04 / users, users, SPAN, 0.02, WRONG).high for users in (100, 1000, 10_000)]
    assert widths == sorted(widths, reverse=True)
    sure = bounds_of(0.0, 0.04 / 1000, 1000, SPAN, 0.02, Wrong(0.001, 0.1))
    assert -sure.low > sure.high > 0


def test_the_estimate_of_a_sample_uses_what_is_known_of_all() -> None:
    generator = np.random.default_rng(1)
    everywhere = generator.random(5000)
    values = everywhere - 0.5 + generator.normal(0, 0.01, 5000)
    sampled = np.where(np.arange(5000) < 500, values, np.nan)
    beside = np.where(np.arange(5000) < 500, everywhere, np.nan)
    double = double_bounds(sampled, beside, everywhere, SPAN, 0.02, WRONG)
    alone = mean_bounds(sampled, SPAN, 0.02, WRONG)
    assert double.users == alone.users == 500
    assert double.low < values.mean() < double.high
    assert double.high - double.low < (alone.high - alone.low) / 2


def test_a_sample_of_all_is_the_mean() -> None:
    values = np.random.default_rng(2).random(300)
    double = double_bounds(values, values**2, values**2, SPAN, 0.02, WRONG)
    alone = mean_bounds(values, SPAN, 0.02, WRONG)
    assert (double.value, double.low, double.high) == pytest.approx((alone.value, alone.low, alone.high))


def test_no_users_tell_nothing() -> None:
    for values in (np.array([]), np.array([np.nan, np.nan]), np.array([1.0])):
        bounds = mean_bounds(values, SPAN, 0.02, WRONG)
        # One user has a figure without bounds.
        assert bounds.value == 1.0 if bounds.users else math.isnan(bounds.value)
        assert (bounds.low, bounds.high) == (-math.inf, math.inf)


def test_means_are_of_each_user() -> None:
    one, many = UserMeans(2), UserMeans(2)
    users, values = np.array([0, 5000, 0, 2]), np.array([1.0, 4.0, 2.0, np.nan])
    for user, value in zip(users.tolist(), values.tolist(), strict=True):
        one.add(user, 1, value)
    many.add_many(users, 1, values)
    for means in (one, many):
        told = means.means(1)
        assert (told[0], told[5000], len(told)) == (1.5, 4.0, 5001)
        assert int(np.isnan(told).sum()) == 4999
        assert (means.count(1), means.count(0)) == (3, 0)
