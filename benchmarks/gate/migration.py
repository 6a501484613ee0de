"""Generated migrations: what the gate sees of one, pair by pair.

Pairs a user follow Zipf's law, in a random order, so that users return. Users differ: in how far the mesh agrees with
itself, and in how often an overlap is 0. Without a loss, model and mesh differ as the mesh's two answers do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]

_EXPONENT, _MOST_PAIRS = 1.5, 40
_AGREEMENT = 0.9
_ZEROS = 0.02
# Results of an answer.
_DEPTH = 100
# Mean overlap without a loss.
_MEAN = _AGREEMENT * (1 - _ZEROS)
# How a loss of overlap is spread: every item may be lost, more so of some users; or some users or pairs lose all.
SHAPES = ("every pair", "users differ", "few users", "few pairs")
# Errors of both sides; latencies: milliseconds, log-normal, users differ.
_ERRORS = 0.002
_LATENCY_MS, _SPREAD, _USER_SPREAD = 12.0, 0.35, 0.15


@dataclass(frozen=True)
class Case:
    """loss: of overlap, the mean over users. noise_share: of pairs asked twice. errors: that the model has more of, a
    share of requests; of_users: of the same users always. slower_ms: the model's answers. ends_at_no: whether a NO ends
    the migration; else it is looked at to the last pair."""

    name: str
    users: int
    loss: float = 0.0
    shape: str = SHAPES[0]
    noise_share: float = 1.0
    errors: float = 0.0
    of_users: bool = False
    slower_ms: float = 0.0
    ends_at_no: bool = False


@dataclass(frozen=True, eq=False)
class Migration:
    """[N] of each pair: the user; overlap of model and mesh; of the mesh with itself, NaN where it was asked once;
    whether the sides failed; latencies."""

    users: Int
    difference: Float
    noise: Float
    model_failed: NDArray[np.bool_]
    mesh_failed: NDArray[np.bool_]
    model_ms: Float
    mesh_ms: Float


def migration(case: Case, seed: int) -> Migration:
    generator = np.random.default_rng(seed)
    count = case.users
    ranks = np.arange(1, _MOST_PAIRS + 1)
    weights = ranks**-_EXPONENT
    pairs = generator.choice(ranks, count, p=weights / weights.sum())
    users = generator.permutation(np.repeat(np.arange(count), pairs))
    total = len(users)
    agreement = generator.beta(20 * _AGREEMENT, 20 * (1 - _AGREEMENT), count)[users]
    zeros = generator.beta(0.5, 0.5 * (1 / _ZEROS - 1), count)[users]
    # Both of the mesh's answers are to one request, which is easy or hard.
    of_request = generator.beta(20 * agreement, 20 * (1 - agreement) + 1e-9)
    overlaps = [generator.binomial(_DEPTH, of_request) * (generator.random(total) >= zeros) for _ in range(2)]
    kept = 1 - _lost(case, users, count, generator)
    noise = overlaps[1] / _DEPTH
    noise[generator.random(total) >= case.noise_share] = np.nan
    extra = generator.random(total) < case.errors
    if case.of_users:
        extra = (generator.random(count) < case.errors)[users]
    user_ms = generator.normal(0, _USER_SPREAD, count)[users]
    model_ms, mesh_ms = (
        _LATENCY_MS * np.exp(user_ms + generator.normal(0, _SPREAD, total)) for _ in range(2)
    )
    return Migration(
        users=users,
        difference=generator.binomial(overlaps[0], kept) / _DEPTH,
        noise=noise,
        model_failed=(generator.random(total) < _ERRORS) | extra,
        mesh_failed=generator.random(total) < _ERRORS,
        model_ms=model_ms + case.slower_ms,
        mesh_ms=mesh_ms,
    )


def _lost(case: Case, users: Int, count: int, generator: np.random.Generator) -> Float:
    """[N], the share of its items that each pair loses; its mean over users gives the case's loss."""
    share = case.loss / _MEAN
    if not share or case.shape == "every pair":
        return np.full(len(users), share)
    if case.shape == "few users":
        return (generator.random(count) < share)[users].astype(np.float64)
    if case.shape == "few pairs":
        return (generator.random(len(users)) < share).astype(np.float64)
    return generator.beta(0.2, 0.2 * (1 / share - 1), count)[users]
