"""The report of the comparing process: counts since its last report, and figures over the latest pairs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from meshfold.compat.shadow.live.latency_steps import step_of
from meshfold.compat.shadow.pairs import OK, Pair

if TYPE_CHECKING:
    from meshfold.compat.shadow.comparison import Catalog
    from meshfold.compat.shadow.pair_measures import PairMeasures

SIDES = ("mesh", "model")
MEASURES = ("overlap", "rbo")
# Upper bounds of the histograms' buckets of overlap and RBO.
BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)


@dataclass
class Distribution:
    """A histogram. counts: number of values in each bucket, which ends at its bound in BUCKETS; the last bucket is
    above all bounds. total: sum of the values."""

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
    """The tally of one surface.

    pairs: by result, "compared", "mesh_failed", "model_failed" or "both_failed". again: pairs with a second answer of
    the mesh; noise_overlap: sum of overlaps of its two answers. checked: items whose eligibility was evaluated, by
    side. violations: checked items that the request did not admit. latencies: by side, answers by step
    (latency_steps.py).
    """

    pairs: Counter[str] = field(default_factory=Counter)
    again: int = 0
    noise_overlap: float = 0.0
    checked: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    latencies: dict[str, Counter[int]] = field(default_factory=lambda: {side: Counter() for side in SIDES})
    distributions: dict[str, Distribution] = field(
        default_factory=lambda: {name: Distribution() for name in MEASURES}
    )
    # Figures of the latest pairs: overlap, rbo, noise_overlap, excess_overlap, noise_width, latency_p50_s,
    # latency_p99_s.
    recent: dict[str, float] = field(default_factory=dict)

    def count(self, pair: Pair, measured: PairMeasures) -> None:
        """Counts a pair, without its items' eligibility."""
        self.pairs[_result(pair)] += 1
        if measured.noise is not None:
            self.again += 1
            self.noise_overlap += measured.noise["overlap@100"]
        if measured.difference is not None:
            self.distributions["overlap"].add(measured.difference["overlap@100"])
            self.distributions["rbo"].add(measured.difference["rbo"])
        for side in SIDES:
            answer = measured.sides.get(side)
            if answer is not None and not math.isnan(answer.latency_ms):
                self.latencies[side][step_of(answer.latency_ms)] += 1

    def check(self, pair: Pair, catalog: Catalog) -> None:
        """Counts the eligibility of a pair's items, where the catalog can evaluate the filter."""
        for side in SIDES:
            answer = getattr(pair, side)
            if answer is None or not answer.item_ids:
                continue
            violations = catalog.violations(pair, answer.item_ids)
            if violations is not None:
                self.checked[side] += catalog.known(answer.item_ids)
                self.violations[side] += violations

    def told(self) -> dict[str, Any]:
        """The tally as JSON."""
        return {
            "pairs": self.pairs,
            "again": self.again,
            "noise_overlap": self.noise_overlap,
            "checked": self.checked,
            "violations": self.violations,
            "latencies": self.latencies,
            "distributions": {name: [d.counts, d.total] for name, d in self.distributions.items()},
            "recent": self.recent,
        }

    def add(self, report: Mapping[str, Any]) -> None:
        """Adds the counts of a report, and replaces the figures of `recent`."""
        self.pairs.update(report["pairs"])
        self.again += report["again"]
        self.noise_overlap += report["noise_overlap"]
        self.checked.update(report["checked"])
        self.violations.update(report["violations"])
        for side, counts in report["latencies"].items():
            # Keys in JSON are strings.
            self.latencies[side].update({int(step): count for step, count in counts.items()})
        for name, (counts, total) in report["distributions"].items():
            self.distributions[name].merge(counts, total)
        self.recent = dict(report["recent"])


def _result(pair: Pair) -> str:
    """The key of `pairs` for a pair: "compared", or the failed sides."""
    failed = [side for side in SIDES if (answer := getattr(pair, side)) is None or answer.status != OK]
    return "both_failed" if len(failed) == 2 else f"{failed[0]}_failed" if failed else "compared"
