"""All measures of one pair, at a cost that a live process can pay for each."""

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
# What is beyond is no score and no latency, and would overflow sums of squares.
_MAX_SCORE = 1e100
_MAX_LATENCY_MS = 1e9
# Of `PairMeasures.difference` and `noise`, in their order.
MEASURES = (
    *(f"{name}@{label}" for name in ("overlap", "jaccard", "ndcg") for label in _LABELS),
    "rbo",
    "tau",
    "first_difference",
    "length_difference",
    "latency_difference_ms",
)


@dataclass(frozen=True, slots=True)
class SideMeasures:
    """One answer. is_empty: OK without items; length: with duplicates; latency_ms: NaN where unknown."""

    is_error: bool
    is_empty: bool
    length: int
    duplicates: int
    nan_scores: int
    has_odd_scores: bool
    latency_ms: float


@dataclass(frozen=True, slots=True)
class PairMeasures:
    """difference: of the mesh's answer and the model's, noise: of the mesh's and the mesh's again; None unless both are OK.

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
    """What one pair says. Every answer is taken as it is: duplicates, NaN and odd scores are counted."""
    lists: dict[PairSide, TiedList] = {}
    sides: dict[str, SideMeasures] = {}
    answers = {PairSide.MESH: pair.mesh, PairSide.MODEL: pair.model, PairSide.AGAIN: pair.again}
    for side, answer in answers.items():
        if answer is None:
            continue
        if answer.status != OK:
            sides[side] = SideMeasures(True, False, 0, 0, 0, False, _latency(answer))
            continue
        told = lists[side] = tied_list(answer, settings.tie_tolerance)
        sides[side] = SideMeasures(
            False,
            not answer.item_ids,
            len(answer.item_ids),
            told.duplicates,
            told.nan_scores,
            told.has_odd_scores,
            _latency(answer),
        )
    difference = noise = difference_counts = noise_counts = None
    scores = np.empty((0, 2))
    mesh, model, again = (lists.get(side) for side in (PairSide.MESH, PairSide.MODEL, PairSide.AGAIN))
    if mesh is not None and model is not None:
        assert pair.mesh is not None and pair.model is not None
        places = places_in(mesh, model)
        difference, difference_counts = _compare(
            pair, (pair.mesh, mesh), (pair.model, model), places, settings
        )
        scores = _common_scores(mesh, model, places, settings.score_points)
    if mesh is not None and again is not None:
        assert pair.mesh is not None and pair.again is not None
        noise, noise_counts = _compare(
            pair, (pair.mesh, mesh), (pair.again, again), places_in(mesh, again), settings
        )
    return PairMeasures(difference, noise, difference_counts, noise_counts, sides, scores)


def share_of(request_id: str, purpose: str = "") -> float:
    """A number from 0 to 1 that depends on the request id and the purpose alone: for samples and splits."""
    return zlib.crc32(f"{purpose}\0{request_id}".encode("utf-8", "surrogatepass")) / 2**32


def _compare(
    pair: Pair,
    first: tuple[SideAnswer, TiedList],
    second: tuple[SideAnswer, TiedList],
    places: Int,
    settings: MeasureSettings,
) -> tuple[dict[str, float], Int]:
    (first_answer, a), (second_answer, b) = first, second
    counts = common_counts(a, b, places, pair.max_results, settings.tie_tolerance)
    is_sampled = share_of(pair.request_id, "tau") < settings.tau_share
    values = (
        *(overlap(counts, depth) for depth in _DEPTHS),
        *(jaccard(counts, depth, len(a), len(b)) for depth in _DEPTHS),
        *ndcg(a, b, places, _DEPTHS),
        rank_biased_overlap(a, b, places, settings.rbo_p),
        kendall_tau(a, b, places) if is_sampled else math.nan,
        float(first_difference(counts)),
        float(len(second_answer.item_ids) - len(first_answer.item_ids)),
        _latency(second_answer) - _latency(first_answer),
    )
    return dict(zip(MEASURES, values, strict=True)), counts


def _common_scores(a: TiedList, b: TiedList, places: Int, most: int) -> NDArray[np.float64]:
    if a.scores is None or b.scores is None or not most:
        return np.empty((0, 2))
    at_a = np.flatnonzero(places >= 0)
    if len(at_a) > most:
        at_a = at_a[np.arange(most) * len(at_a) // most]
    found = np.empty((len(at_a), 2))
    found[:, 0], found[:, 1] = a.scores[at_a], b.scores[places[at_a]]
    return found[(np.abs(found) < _MAX_SCORE).all(axis=1)]


def _latency(answer: SideAnswer) -> float:
    return answer.latency_ms if 0 <= answer.latency_ms < _MAX_LATENCY_MS else math.nan
