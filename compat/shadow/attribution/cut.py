"""Explains the difference between a list and the best of a ranking: ties, precision, order or length."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from meshfold.compat.shadow.attribution.ranking import Ranking
from meshfold.compat.shadow.catalog import Item
from meshfold.compat.shadow.comparison import Cause

# Largest relative differences of a value by another order of float32 sums, and by rounding to float16.
TIE = 2**-22
PRECISION = 2**-10


def precision_of(values: Sequence[float]) -> float:
    """The largest difference of a list's values by rounding alone: relative to a value, or to the median for smaller
    values."""
    sizes = np.abs(np.array(values, np.float64))
    finite = sizes[np.isfinite(sizes)]
    return PRECISION * float(np.median(finite)) if len(finite) else 0.0


def same(a: float, b: float, floor: float) -> bool:
    """Whether two values of an item are equal up to rounding. floor: the result of precision_of."""
    return abs(a - b) <= max(PRECISION * max(abs(a), abs(b)), floor)


def is_ordered(scores: Sequence[float]) -> bool:
    """Whether scores descend, up to rounding."""
    rises = [(a, b) for a, b in zip(scores, scores[1:], strict=False) if not a >= b]
    floor = precision_of(scores) if rises else 0.0
    return all(same(a, b, floor) for a, b in rises)


def goes_by_its_scores(items: Sequence[Item], scores: Sequence[float]) -> bool:
    """Whether an answer has no item twice and its scores, where known, descend up to rounding."""
    return is_ordered(scores) and len(frozenset(items)) == len(items)


class Cut:
    """The difference between an answer and the best k of a ranking, explained by the values at the cut.

    A missing item is compared with the best extra item of the answer, an extra item with the worst missing one.
    """

    def __init__(
        self,
        answer: Sequence[Item],
        scores: Sequence[float],
        ranking: Ranking,
        k: int,
        values: Mapping[Item, float],
        otherwise: Callable[[Item], Cause],
    ) -> None:
        """scores: the answer's own; empty where unknown. values: values of items of the answer that the ranking lacks.
        otherwise: returns the cause of an item that no value explains."""
        held, best = frozenset(answer), ranking.top(k)
        self._value_of: dict[Item, float] = {**values, **ranking.value_of}
        lacking, beyond = best - held, held - best
        self._worst = min((self._value_of[i] for i in lacking), default=math.nan)
        self._best = max((self._value_of.get(i, math.inf) for i in beyond), default=math.nan)
        self._lacking, self._otherwise = lacking, otherwise
        self._floor = precision_of(ranking.values[:k])
        # An item that the answer has twice takes the place of another.
        self._ordered = goes_by_its_scores(answer, scores)
        is_short = len(answer) < min(k, len(ranking.ids))
        of_held = (value for item, value in ranking.value_of.items() if item in held)
        self._end = min(of_held, default=math.inf) if is_short else -math.inf

    def gap(self, item: Item) -> float:
        """The distance of the item's value from the right side of the cut; NaN where unknown."""
        value = self._value_of.get(item, math.nan)
        return value - self._best if item in self._lacking else self._worst - value

    def is_close(self, item: Item) -> bool:
        """Whether rounding explains the item's difference."""
        value = abs(self._value_of.get(item, math.nan))
        return self.gap(item) <= max(PRECISION * value, self._floor)

    def is_after_end(self, item: Item) -> bool:
        """Whether the answer has fewer items than requested, all of them better than the item."""
        return item in self._lacking and self._value_of[item] < self._end

    def cause_of(self, item: Item) -> Cause:
        if self.is_after_end(item):
            return Cause.CAP
        if not self._ordered:
            # An answer that is not ordered by its own scores would differ with exact values, too.
            return Cause.MERGE
        if self.gap(item) <= TIE * max(abs(self._value_of.get(item, math.nan)), self._floor / PRECISION):
            return Cause.TIE
        if self.is_close(item):
            return Cause.PRECISION
        return self._otherwise(item)
