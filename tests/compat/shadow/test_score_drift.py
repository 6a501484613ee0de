from __future__ import annotations

import numpy as np
import pytest

from meshfold.compat.shadow import score_drift
from meshfold.compat.shadow.comparison import Drift
from meshfold.compat.shadow.score_drift import ScoreSample, monotone_fit


def drift(noise: float, sign: float = 1.0, pairs: int = 300) -> Drift | None:
    generator = np.random.default_rng(0)
    sample = ScoreSample()
    for number in range(pairs):
        mesh = generator.random(10)
        model = sign * mesh**3 + noise * generator.standard_normal(10)
        sample.add(f"r{number}", number % 50, np.column_stack([mesh, model]))
    return sample.drift(300, 0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_monotone_change_of_scale_is_no_drift(sign: float) -> None:
    told = drift(0.0, sign)
    assert told is not None
    assert told.error.value < 0.005
    curve = np.array(told.curve)
    assert len(curve) <= 200
    assert (np.diff(curve[:, 0]) > 0).all()
    assert (sign * np.diff(curve[:, 1]) >= 0).all()
    np.testing.assert_allclose(curve[:, 1], sign * curve[:, 0] ** 3, atol=1e-9)
    assert len(told.points) == 500


def test_noise_is_drift_with_an_interval() -> None:
    told = drift(0.1)
    assert told is not None
    # The median of |N(0, 0.1)| over the interquartile range of u^3 + N(0, 0.1), which is about 0.44.
    assert told.error.value == pytest.approx(0.0674 / 0.44, rel=0.15)
    assert told.error.low < told.error.value < told.error.high
    assert told.items == pytest.approx(1500, abs=300)


def test_few_items_and_one_score() -> None:
    assert drift(0.1, pairs=2) is None
    sample = ScoreSample()
    for number in range(50):
        sample.add(f"r{number}", number, np.ones((3, 2)))
    told = sample.drift(300, 0)
    assert told is not None
    assert np.isnan(told.error.value)


def test_memory_is_bounded_and_the_order_of_pairs_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_drift, "_MAX_PAIRS", 50)
    generator = np.random.default_rng(0)
    rows = [(f"r{number}", number, generator.random((4, 2))) for number in range(500)]
    told = []
    for order in (rows, rows[::-1]):
        sample = ScoreSample()
        for row in order:
            sample.add(*row)
            assert len(sample._kept) < 100
        told.append(sample.drift(300, 0))
    assert told[0] == told[1]


def test_the_fit_is_the_least_squares_one() -> None:
    knots, values = monotone_fit(np.array([3.0, 1.0, 2.0, 2.0, 4.0]), np.array([2.0, 1.0, 4.0, 2.0, 5.0]))
    # Means at 1, 2, 3, 4: 1, 3 (twice), 2, 5; 2 and 3 pool to 8 / 3.
    np.testing.assert_allclose(knots, [1, 2, 3, 4])
    np.testing.assert_allclose(values, [1, 8 / 3, 8 / 3, 5])
