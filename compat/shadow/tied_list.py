"""An answer as a ranked list with ties.

Items whose scores are equal within a tolerance are a tie group, whose order is arbitrary. Scores are compared with the
group's first item, so that a group spans no more than the tolerance. Scores that are all equal give no order and make
no ties; nor do NaN scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshfold.compat.shadow.pairs import ItemIds, SideAnswer

Int = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TiedList:
    """A ranked list without duplicates.

    item_ids: [N], best first, each at its first place. scores: [N] float64, or None where the answer has none.
    starts, ends: [N], first place of each item's tie group, and the place after its last, from 0. has_ties: whether any
    group has two items. cut_score: score of the last item; NaN where scores give no order. duplicates: number of
    repeated items, which are left out. nan_scores: number of NaN scores of the kept items. has_odd_scores: whether the
    number of scores was not that of items, so that scores were left out.
    """

    item_ids: ItemIds
    scores: NDArray[np.float64] | None
    starts: Int
    ends: Int
    has_ties: bool
    cut_score: float
    duplicates: int
    nan_scores: int
    has_odd_scores: bool

    def __len__(self) -> int:
        return len(self.item_ids)


def tied_list(answer: SideAnswer, tolerance: float) -> TiedList:
    """The list of an answer. tolerance: relative, as in math.isclose."""
    ids, given = answer.item_ids, answer.scores
    has_odd_scores = bool(given) and len(given) != len(ids)
    scores = np.array(given, np.float64) if given and not has_odd_scores else None
    duplicates = len(ids) - len(set(ids))
    if duplicates:
        kept = sorted({item_id: place for place, item_id in reversed(tuple(enumerate(ids)))}.values())
        ids = tuple(ids[place] for place in kept)  # type: ignore[assignment]
        scores = None if scores is None else scores[kept]
    starts = np.arange(len(ids))
    ends = starts + 1
    has_ties = False
    nan_scores = 0
    cut_score = math.nan
    if scores is not None and len(scores):
        nan_scores = int(np.isnan(scores).sum())
        cut_score = float(scores[-1])
        is_tied = _ties_with_next(scores, tolerance)
        if is_tied.any():
            starts, ends = _groups(scores.tolist(), is_tied, tolerance)
            has_ties = True
            if ends[0] == len(ids):
                starts, ends = np.arange(len(ids)), np.arange(1, len(ids) + 1)
                has_ties, cut_score = False, math.nan
    return TiedList(ids, scores, starts, ends, has_ties, cut_score, duplicates, nan_scores, has_odd_scores)


def _ties_with_next(scores: NDArray[np.float64], tolerance: float) -> NDArray[np.bool_]:
    left, right = scores[:-1], scores[1:]
    with np.errstate(invalid="ignore", over="ignore"):
        gaps = np.abs(left - right)
        is_near = (gaps <= tolerance * np.maximum(np.abs(left), np.abs(right))) & np.isfinite(gaps)
    return np.asarray(is_near | (left == right))


def _groups(scores: list[float], is_tied: NDArray[np.bool_], tolerance: float) -> tuple[Int, Int]:
    heads = [0]
    for place, follows in enumerate(is_tied.tolist(), start=1):
        if not (follows and math.isclose(scores[heads[-1]], scores[place], rel_tol=tolerance)):
            heads.append(place)
    bounds = np.array([*heads, len(scores)])
    sizes = np.diff(bounds)
    return np.repeat(bounds[:-1], sizes), np.repeat(bounds[1:], sizes)
