"""All measures of one pair, fast enough to compute for every pair of a live server."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshfold.compat.shadow.compare_settings import MeasureSettings
from meshfold.compat.shadow.comparison import DEPTHS
from meshfold.compat.shadow.pairs import OK, Pair, PairSide, SideAnswer
from meshfold.compat.shadow.rank_measures import (
    common_counts,
    first_difference,
    jaccard,
    kendall_tau,
    ndcg,
    overlap,
    places_in,
    rank_biased_overlap,
)
from meshfold.compat.shadow.tied_list import Int, TiedList, tied_list

# Depth 0, the longer list's length, is called K.
_DEPTHS = (*DEPTHS, 0)
_LABELS = tuple(str(depth or "K") for depth in _DEPTHS)
# Larger magnitudes are not taken for scores or latencies, since their squares would overflow.
_MAX_SCORE = 1e100
_MAX_LATENCY_MS = 1e9
_OF_LISTS = (
    *(f"{name}@{label}" for name in ("overlap", "jaccard", "ndcg") for label in _LABELS),
    "rbo",
    "tau",
    "first_difference",
)
_OF_SIDES = ("length_difference", "latency_difference_ms")
# Names in PairMeasures.difference and noise, in their order.
MEASURES = (*_OF_LISTS, *_OF_SIDES)


@dataclass(frozen=True, slots=True)
class SideMeasures:
    """Measures of one answer. is_empty: OK without items. length: with duplicates. latency_ms: NaN where unknown."""

    is_error: bool
    is_empty: bool
    length: int
    duplicates: int
    nan_scores: int
    has_odd_scores: bool
    latency_ms: float


@dataclass(frozen=True, slots=True)
class PairMeasures:
    """Measures of one pair.

    difference: model's against mesh's answer. noise: mesh's second against its first. None unless both answers are OK.

    Both have the names of MEASURES: overlap, Jaccard and NDCG (the second list graded by the mesh's) at 10, 50, 100 and
    K, rank-biased overlap, Kendall's tau-b (NaN unless sampled), the first rank that differs (the longer length + 1
    where none), length and latency of the second answer minus the mesh's. difference_counts, noise_counts: [D], shared
    items within each depth, ties in the best order. sides: by side, of the answers that there are. scores: [n, 2]
    (mesh, model) of some common items.
    """

    difference: Mapping[str, float] | None
    noise: Mapping[str, float] | None
    difference_counts: Int | None
    noise_counts: Int | None
    sides: Mapping[str, SideMeasures]
    scores: NDArray[np.float64]


def measure(pair: Pair, settings: MeasureSettings) -> PairMeasures:
    """Measures a pair. Duplicates, NaN and a wrong number of scores are no errors; they are counted."""
    lists: dict[PairSide, TiedList] = {}
    sides: dict[str, SideMeasures] = {}
    answers = {PairSide.MESH: pair.mesh, PairSide.MODEL: pair.model, PairSide.AGAIN: pair.again}
    for side, answer in answers.items():
        if answer is not None and answer.status == OK:
            lists[side] = tied_list(answer, settings.tie_tolerance)
        if answer is not None:
            sides[side] = _side(answer, lists.get(side))
    difference = noise = difference_counts = noise_counts = None
    scores = np.empty((0, 2))
    mesh, model, again = (lists.get(side) for side in (PairSide.MESH, PairSide.MODEL, PairSide.AGAIN))
    if mesh is not None and model is not None:
        places = places_in(mesh, model)
        difference_counts = _counts(pair, mesh, model, places, settings)
        difference = _values(pair, mesh, model, places, difference_counts, settings)
        difference |= _changes(sides[PairSide.MESH], sides[PairSide.MODEL])
        scores = _common_scores(mesh, model, places, settings.score_points)
    if mesh is not None and again is not None:
        places = places_in(mesh, again)
        noise_counts = _counts(pair, mesh, again, places, settings)
        noise = _values(pair, mesh, again, places, noise_counts, settings)
        noise |= _changes(sides[PairSide.MESH], sides[PairSide.AGAIN])
    return PairMeasures(difference, noise, difference_counts, noise_counts, sides, scores)


def share_of(request_id: str, purpose: str = "") -> float:
    """A hash of request id and purpose, from 0 to 1, for samples and splits."""
    return zlib.crc32(f"{purpose}\0{request_id}".encode("utf-8", "surrogatepass")) / 2**32


def _side(answer: SideAnswer, tied: TiedList | None) -> SideMeasures:
    latency_ms = answer.latency_ms if 0 <= answer.latency_ms < _MAX_LATENCY_MS else math.nan
    if tied is None:
        return SideMeasures(True, False, 0, 0, 0, False, latency_ms)
    length = len(answer.item_ids)
    return SideMeasures(
        False, not length, length, tied.duplicates, tied.nan_scores, tied.has_odd_scores, latency_ms
    )


def _counts(pair: Pair, a: TiedList, b: TiedList, places: Int, settings: MeasureSettings) -> Int:
    return common_counts(a, b, places, pair.max_results, settings.tie_tolerance)


def _values(
    pair: Pair, a: TiedList, b: TiedList, places: Int, counts: Int, settings: MeasureSettings
) -> dict[str, float]:
    is_sampled = share_of(pair.request_id, "tau") < settings.tau_share
    values = (
        *(overlap(counts, depth) for depth in _DEPTHS),
        *(jaccard(counts, depth, len(a), len(b)) for depth in _DEPTHS),
        *ndcg(a, b, places, _DEPTHS),
        rank_biased_overlap(a, b, places, settings.rbo_p),
        kendall_tau(a, b, places) if is_sampled else math.nan,
        float(first_difference(counts)),
    )
    return dict(zip(_OF_LISTS, values, strict=True))


def _changes(first: SideMeasures, second: SideMeasures) -> dict[str, float]:
    values = (float(second.length - first.length), second.latency_ms - first.latency_ms)
    return dict(zip(_OF_SIDES, values, strict=True))


def _common_scores(a: TiedList, b: TiedList, places: Int, most: int) -> NDArray[np.float64]:
    if a.scores is None or b.scores is None or not most:
        return np.empty((0, 2))
    at_a = np.flatnonzero(places >= 0)
    if len(at_a) > most:
        at_a = at_a[np.arange(most) * len(at_a) // most]
    found = np.empty((len(at_a), 2))
    found[:, 0], found[:, 1] = a.scores[at_a], b.scores[places[at_a]]
    return found[(np.abs(found) < _MAX_SCORE).all(axis=1)]
