"""Rare events and latencies of each side."""

from __future__ import annotations

import math
from array import array
from collections import Counter

import numpy as np

from meshfold.compat.shadow.comparison import Catalog, Latency, Rate
from meshfold.compat.shadow.intervals import binomial_bounds
from meshfold.compat.shadow.pair_measures import PairMeasures
from meshfold.compat.shadow.pairs import OK, Pair, PairSide

# Events of answers, in this order; violations of items follow. A short answer may be right where few items pass.
_OF_ANSWERS = ("errors", "empty", "duplicates", "nan_scores", "odd_scores")
_SHORT, _VIOLATIONS = "short", "violations"


class SideCounts:
    """Events of one side's answers.

    errors: counted over all answers. empty, duplicates, nan_scores, odd_scores (more or fewer than items), short (fewer
    items than requested, where known): counted over OK answers. violations: counted over items of the catalog.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._of: Counter[tuple[str, str]] = Counter()
        self._latencies: dict[str, array[float]] = {}

    def add(self, pair: Pair, measures: PairMeasures, catalog: Catalog | None) -> None:
        for side, one in measures.sides.items():
            events = (one.is_error, one.is_empty, one.duplicates, one.nan_scores, one.has_odd_scores)
            for name, happened in zip(_OF_ANSWERS, events, strict=True):
                if name == "errors" or not one.is_error:
                    self._of[side, name] += 1
                    self._counts[side, name] += bool(happened)
            if pair.max_results and not one.is_error:
                self._of[side, _SHORT] += 1
                self._counts[side, _SHORT] += one.length < pair.max_results
            if not math.isnan(one.latency_ms):
                self._latencies.setdefault(side, array("d")).append(one.latency_ms)
        if catalog is None:
            return
        for name, answer in ((PairSide.MESH, pair.mesh), (PairSide.MODEL, pair.model)):
            if answer is None or answer.status != OK:
                continue
            violations = catalog.violations(pair, answer.item_ids)
            if violations is not None:
                self._counts[name, _VIOLATIONS] += violations
                self._of[name, _VIOLATIONS] += catalog.known(answer.item_ids)

    def rates(self) -> tuple[Rate, ...]:
        """The rates by name, then side; without those that were never counted."""
        found = []
        for name in (*_OF_ANSWERS, _SHORT, _VIOLATIONS):
            for side in PairSide:
                of = self._of[side, name]
                if of:
                    count = self._counts[side, name]
                    found.append(Rate(name, side.value, count, of, *binomial_bounds(count, of)))
        return tuple(found)

    def latencies(self) -> tuple[Latency, ...]:
        """Latencies of all answers where known, failed ones included."""
        return tuple(
            Latency(side.value, len(events), *np.quantile(events, (0.5, 0.9, 0.99)).tolist())
            for side in PairSide
            if (events := self._latencies.get(side))
        )
