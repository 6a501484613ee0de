"""What the comparing process reports: counts since its last report, and figures over the latest pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SIDES = ("mesh", "model")
MEASURES = ("overlap", "rbo")
# Upper bounds of overlap and RBO.
BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)


@dataclass
class Distribution:
    """counts: of values up to each of BUCKETS and above the one before; the last, of those above all. total: the sum of
    the values."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def add(self, value: float) -> None:
        place = next((place for place, bound in enumerate(BUCKETS) if value <= bound), len(BUCKETS))
        self.counts[place] += 1
        self.total += value

    def merge(self, counts: Sequence[int], total: float) -> None:
        self.counts = [mine + more for mine, more in zip(self.counts, counts, strict=True)]
        self.total += total


@dataclass
class Tally:
    """Of one surface. pairs: "compared", or which sides failed: "mesh_failed", "model_failed", "both_failed".
    checked: items whose eligibility was evaluated, by side. violations: of them, those that the request did not admit.
    """

    pairs: Counter[str] = field(default_factory=Counter)
    again: int = 0
    checked: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    distributions: dict[str, Distribution] = field(
        default_factory=lambda: {name: Distribution() for name in MEASURES}
    )
    # Over the latest pairs: overlap, rbo, noise_overlap, excess_overlap, noise_width, latency_p50_s, latency_p99_s.
    recent: dict[str, float] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "pairs": self.pairs,
            "again": self.again,
            "checked": self.checked,
            "violations": self.violations,
            "distributions": {name: [d.counts, d.total] for name, d in self.distributions.items()},
            "recent": self.recent,
        }

    def add(self, told: Mapping[str, Any]) -> None:
        """Counts grow by those of a report; its figures take the place of those before."""
        self.pairs.update(told["pairs"])
        self.again += told["again"]
        self.checked.update(told["checked"])
        self.violations.update(told["violations"])
        for name, (counts, total) in told["distributions"].items():
            self.distributions[name].merge(counts, total)
        self.recent = dict(told["recent"])
