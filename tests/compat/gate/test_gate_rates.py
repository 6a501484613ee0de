"""Errors and latencies, whose tests look as often as they like."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from meshfold.compat.gate.guards import Errors
from meshfold.compat.gate.latencies import Latencies
from meshfold.compat.gate.quantiles import QuantileBounds, Sample
from meshfold.compat.gate.rare_events import Discordant, log_evidence
from meshfold.compat.gate.verdict import Decision


def test_wealth_does_not_grow_where_rates_are_allowed() -> None:
    """The mean of the wealth after any number of requests is at most 1."""
    for model, mesh in ((0.011, 0.01), (0.001, 0.0), (0.05, 0.3)):
        wealth = model * _wealth(1, 0, 0) + mesh * _wealth(0, 1, 0) + (1 - model - mesh) * _wealth(0, 0, 1)
        assert wealth <= 1 + 1e-12


def test_half_a_percent_more_errors_are_soon_evidence() -> None:
    assert log_evidence(Discordant(15, 0, 2985), 0.0005) > math.log(1000)
    assert log_evidence(Discordant(5, 5, 990), 0.0005) < 0
    assert log_evidence(Discordant(0, 0, 0), 0.0005) == 0


def test_errors_of_a_batch_are_those_of_each() -> None:
    generator = np.random.default_rng(0)
    users = generator.integers(300, size=1000)
    model, mesh = generator.random((2, 1000)) < 0.02
    one, many = Errors(0.0005, 0.005), Errors(0.0005, 0.005)
    for user, model_failed, mesh_failed in zip(users.tolist(), model.tolist(), mesh.tolist(), strict=True):
        one.add(user, model_failed, mesh_failed)
    many.add_many(users, model, mesh)
    assert one.reason(0.01, 0.01, 20) == many.reason(0.01, 0.01, 20)


def test_bounds_of_a_quantile_hold_at_all_looks_together() -> None:
    generator = np.random.default_rng(0)
    missed = 0
    for _ in range(100):
        values = generator.exponential(size=4000)
        sample = Sample()
        told = []
        for start in range(0, 4000, 200):
            sample.values.extend(values[start : start + 200].tolist())
            told += sample.bounds(np.arange(start + 200), 0.99, [0.02])
        missed += any(not bounds.low <= -math.log(0.01) <= bounds.high for bounds in told)
    # 2 are expected at most.
    assert missed < 7


def test_a_users_latencies_are_dependent() -> None:
    """Ten users of a thousand are slow: a hundred of each user's answers tell no more than one."""
    slow = np.repeat(np.arange(1000) < 10, 100) * 100.0
    values = slow + np.random.default_rng(0).random(100_000)
    users = np.repeat(np.arange(1000), 100)
    alone = _bounds(values, np.arange(100_000))
    together = _bounds(values, users)
    assert together.low <= alone.low <= alone.high <= together.high
    assert together.high > 100


def test_few_latencies_have_no_upper_bound() -> None:
    bounds = _bounds(np.arange(100.0), np.arange(100))
    assert bounds.high == math.inf
    assert math.isnan(_bounds(np.array([]), np.array([], np.int64)).value)


def test_twenty_milliseconds_are_caught() -> None:
    generator = np.random.default_rng(0)
    told = {}
    for slower_ms in (0, 20):
        latencies = Latencies(1.0, 10.0, 20.0)
        mesh, model = generator.gamma(9, 1.5, (2, 3000))
        latencies.add_many(np.arange(3000), mesh, model + slower_ms)
        latencies.add(3000, math.nan, 5.0)
        told[slower_ms] = latencies.reason(0.01, 0.01, 200)
    assert told[0].decision is Decision.YES
    assert told[20].decision is Decision.NO
    assert "20" not in told[0].sentence.split("plus")[0]
    assert told[20].low > 10


def _wealth(model: int, mesh: int, others: int) -> float:
    return math.exp(log_evidence(Discordant(model, mesh, others), 0.001))


def _bounds(values: NDArray[np.float64], users: NDArray[np.int64]) -> QuantileBounds:
    [bounds] = Sample(values.tolist()).bounds(users, 0.99, [0.01])
    return bounds
