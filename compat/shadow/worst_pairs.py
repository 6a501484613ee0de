"""Keeps the few pairs whose answers differ most, as a whole."""

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
    """The worst pairs, at most one per user, with their measures. The result does not depend on the order of pairs.

    The worst pair has the lowest overlap minus its noise. A pair without noise is taken with the mean noise of the
    surface, which is known only at the end; both kinds are kept apart until then.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._with_noise: dict[str, _Kept] = {}
        self._without: dict[str, _Kept] = {}

    def add(self, pair: Pair, measures: PairMeasures) -> None:
        if measures.difference is None or not self._most:
            return
        values = dict(measures.difference)
        overlap, kept = values[_MEASURE], self._without
        if measures.noise is not None:
            overlap, kept = overlap - measures.noise[_MEASURE], self._with_noise
            values |= {f"noise {name}": value for name, value in measures.noise.items()}
        values = {name: value for name, value in values.items() if not math.isnan(value)}
        user = pair.user_key or f"\0{pair.request_id}"
        new = _Kept(overlap, pair.request_id, pair, values)
        if user in kept:
            kept[user] = min(kept[user], new, key=_order)
            return
        kept[user] = new
        if len(kept) > self._most:
            del kept[max(kept, key=lambda other: _order(kept[other]))]

    def found(self, mean_noise: float) -> list[tuple[Pair, Mapping[str, float]]]:
        """The pairs, worst first. mean_noise: mean overlap of the surface's mesh with itself; NaN (unknown) counts as
        1."""
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
