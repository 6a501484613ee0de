"""Settings of a comparison. A value out of its bounds raises InvalidConfig."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from meshfold.model.errors import InvalidConfig


@dataclass(frozen=True)
class MeasureSettings:
    """Settings of the measures of one pair.

    rbo_p: persistence of rank-biased overlap, between 0 and 1; at 0.9 the top 10 have 86 % of the weight.
    tie_tolerance: relative difference up to which scores are tied (math.isclose). tau_share: share of pairs, by a hash
    of the request id, for which Kendall's tau is computed; it takes longer than all other measures together.
    score_points: most common items of a pair whose scores are kept for score drift.
    """

    rbo_p: float = 0.9
    tie_tolerance: float = 1e-6
    tau_share: float = 0.1
    score_points: int = 10

    def __post_init__(self) -> None:
        _check("rbo_p", self.rbo_p, 0 < self.rbo_p < 1, "a number over 0 and under 1")
        _check("tie_tolerance", self.tie_tolerance, 0 <= self.tie_tolerance < 1, "from 0 and under 1")
        _check("tau_share", self.tau_share, 0 <= self.tau_share <= 1, "a share from 0 to 1")
        _check("score_points", self.score_points, 0 <= self.score_points <= 1000, "from 0 to 1000")


@dataclass(frozen=True)
class CompareSettings:
    """Settings of a comparison.

    resamples: resamples of the bootstrap over users; fewer where users are many. seed: seed of the bootstrap.
    min_users: fewest users of a slice, of the pairs outside of it, and of a value's exposure. examples, slices,
    exposure_values: most of each that are kept per surface.
    """

    measures: MeasureSettings = field(default_factory=MeasureSettings)
    resamples: int = 2000
    seed: int = 0
    min_users: int = 20
    examples: int = 12
    slices: int = 200
    exposure_values: int = 50

    def __post_init__(self) -> None:
        _check("resamples", self.resamples, 100 <= self.resamples <= 100_000, "from 100 to 100000")
        _check("seed", self.seed, self.seed >= 0, "at least 0")
        _check("min_users", self.min_users, self.min_users >= 2, "at least 2")
        for name in ("examples", "slices", "exposure_values"):
            value = getattr(self, name)
            _check(name, value, 0 <= value <= 10_000, "from 0 to 10000")


def _check(name: str, value: float, is_valid: bool, expected: str) -> None:
    if not is_valid or math.isnan(value):
        raise InvalidConfig(f"{name} must be {expected}, got {value}")
