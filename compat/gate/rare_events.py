"""A sequential test of whether the model fails more requests than the mesh.

A request that one side fails and the other answers is discordant. Each user's requests count up to the first
discordant one. A user whose requests all fail is therefore one event, not many, and given the user's earlier requests
the next one fails with at most the mean probability.

The test bets on each request (Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by
betting"): wealth is multiplied by 1 + stake x (outcome - allowed), with the outcome 1 where the model alone failed,
-1 where the mesh alone did, else 0. While the model's rate is at most the mesh's plus `allowed`, wealth grows with no
stake, so that it reaches 1 / error rate with at most the error rate's probability, at any look (Ville 1939).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Each stake begins with an equal part of the wealth. The largest suits a mesh without failures, the others one with
# some.
_STAKES = (0.2, 0.5, 0.95)


@dataclass(frozen=True)
class Discordant:
    """Numbers of requests: failed by the model alone, failed by the mesh alone, and all others."""

    model: int
    mesh: int
    others: int


def log_evidence(seen: Discordant, allowed: float) -> float:
    """The logarithm of the wealth against "the model's rate is at most the mesh's plus `allowed`"."""
    logs = [
        seen.model * math.log1p(stake * (1 - allowed))
        + seen.mesh * math.log1p(-stake * (1 + allowed))
        + seen.others * math.log1p(-stake * allowed)
        for stake in _STAKES
    ]
    most = max(logs)
    return most + math.log(sum(math.exp(log - most) for log in logs) / len(logs))
