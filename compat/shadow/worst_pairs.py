"""The pairs whose answers differ most, a few of them, whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from meshfold.compat.shadow.pair_measures import PairMeasures
from meshfold.compat.shadow.pairs import Pair

_MEASURE = "overlap@100"


class _Kept(NamedTuple):
    overlap: float
    request_id: str
    pair: Pair
    measures: Mapping[str, float]


class WorstPairs:
    """At most one pair a user, with the measures that are known; the order of pairs does not show.

    Worst is the lowest overlap minus the pair's own noise; of a pair that has none, minus the mean noise of the
    surface, so that both kinds are kept apart until that is known.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._with_noise: dict[str, _Kept] = {}
        self._without: dict[str, _Kept] = {}

    def add(self, pair: Pair, measures: PairMeasures) -> None:
        if measures.difference is None or not self._most:
            return
        told = dict(measures.difference)
        overlap, kept = told[_MEASURE], self._without
        if measures.noise is not None:
            overlap, kept = overlap - measures.noise[_MEASURE], self._with_noise
            told |= {f"noise {name}": value for name, value in measures.noise.items()}
        told = {name: value for name, value in told.items() if not math.isnan(value)}
        user = pair.user_key or f"\0{pair.request_id}"
        new = _Kept(overlap, pair.request_id, pair, told)
        if user in kept:
            kept[user] = min(kept[user], new, key=_order)
            return
        kept[user] = new
        if len(kept) > self._most:
            del kept[max(kept, key=lambda other: _order(kept[other]))]

    def found(self, mean_noise: float) -> list[tuple[Pair, Mapping[str, float]]]:
        """Worst first. mean_noise: the surface's mean overlap of the mesh with itself; NaN, unknown, is taken as 1."""
        noise = 1.0 if math.isnan(mean_noise) else mean_noise
        kept = [
            *((_order(one), one) for one in self._with_noise.values()),
            *(((one.overlap - noise, one.request_id), one) for one in self._without.values()),
        ]
        kept.sort(key=lambda entry: entry[0])
        found: dict[str, _Kept] = {}
        for _, one in kept:
            found.setdefault(one.pair.user_key or f"\0{one.request_id}", one)
        return [(one.pair, one.measures) for one in list(found.values())[: self._most]]


def _order(kept: _Kept) -> tuple[float, str]:
    return kept.overlap, kept.request_id
