"""Causes that do not count against the model: faults and misses of the mesh, and ties."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from meshfold.compat.shadow.attribution.cut import goes_by_its_scores
from meshfold.compat.shadow.comparison import Cause, Difference
from meshfold.compat.shadow.pairs import ItemIds, Pair, PairSide, SideAnswer

# Causes that are never the model's doing.
EXCUSED = frozenset((Cause.MESH_ANN_MISS, Cause.MESH_FILTER, Cause.MESH_CATALOG, Cause.TIE, Cause.PRECISION))


def excused_causes(pair: Pair, accepted: Collection[Cause] = ()) -> frozenset[Cause]:
    """Causes that do not count against the model in a pair with both answers.

    MERGE is included if the mesh's answer contradicts its own scores and the model's answer follows its own.
    """
    assert pair.mesh is not None
    assert pair.model is not None
    is_meshs = _follows_scores(pair.mesh) is False and _follows_scores(pair.model) is True
    return EXCUSED.union(accepted, (Cause.MERGE,) if is_meshs else ())


def _follows_scores(answer: SideAnswer) -> bool | None:
    """None unless every item has a finite score."""
    if len(answer.scores) != len(answer.item_ids) or not all(map(math.isfinite, answer.scores)):
        return None
    return goes_by_its_scores(answer.item_ids, answer.scores)


class Swaps:
    """Swaps in the first results of a pair: an item of one answer in the place of an item of the other.

    Both answers must be OK. A swap has two ends: an item that the mesh's answer lacks, and one that the model's answer
    lacks. A cause of either end explains the swap.
    """

    def __init__(self, pair: Pair, differences: Sequence[Difference], depth: int) -> None:
        """depth: number of results compared, at most the length of the longer answer; 0 for all."""
        assert pair.mesh is not None
        assert pair.model is not None
        mesh, model = dict.fromkeys(pair.mesh.item_ids), dict.fromkeys(pair.model.item_ids)
        longer = max(len(mesh), len(model))
        self._at = min(depth, longer) if depth else longer
        self._shared = len({*[*mesh][: self._at]} & {*[*model][: self._at]})
        others = {PairSide.MESH: {*[*model][: self._at]}, PairSide.MODEL: {*[*mesh][: self._at]}}
        self._ends = Counter(
            (one.missing_from, one.cause)
            for one in differences
            if one.item_id in others[PairSide(one.missing_from)]
        )

    def overlap(self, excused: Collection[Cause]) -> float:
        """Overlap after undoing the swaps with one of the causes. 1 for two empty answers."""
        return min(1.0, (self._shared + self._of(excused)) / self._at) if self._at else 1.0

    def share(self, causes: Collection[Cause]) -> float:
        """Share of the results that are swapped for one of the causes."""
        return self._of(causes) / self._at if self._at else 0.0

    def _of(self, causes: Collection[Cause]) -> int:
        return max(
            sum(self._ends[side.value, cause] for cause in causes) for side in (PairSide.MESH, PairSide.MODEL)
        )


def without(pair: Pair, differences: Sequence[Difference], causes: Collection[Cause]) -> Pair:
    """The pair without the items whose difference has one of the causes.

    With MERGE among the causes the mesh's answer is sorted by its own scores.
    """
    if Cause.MERGE in causes:
        pair = by_mesh_scores(pair)
    assert pair.mesh is not None
    assert pair.model is not None
    out = {(one.missing_from, one.item_id) for one in differences if one.cause in causes}
    return replace(
        pair,
        mesh=_less(pair.mesh, {item for side, item in out if side == PairSide.MODEL}),
        model=_less(pair.model, {item for side, item in out if side == PairSide.MESH}),
    )


def by_mesh_scores(pair: Pair) -> Pair:
    """The pair with the mesh's answer sorted by its own scores, all of which must be there."""
    assert pair.mesh is not None
    scores = pair.mesh.scores
    return replace(pair, mesh=_at(pair.mesh, sorted(range(len(scores)), key=lambda place: -scores[place])))


def _less(answer: SideAnswer, items: Collection[int | str]) -> SideAnswer:
    return _at(answer, [place for place, item in enumerate(answer.item_ids) if item not in items])


def _at(answer: SideAnswer, places: Sequence[int]) -> SideAnswer:
    item_ids: ItemIds = tuple(answer.item_ids[place] for place in places)  # type: ignore[assignment]
    has_scores = len(answer.scores) == len(answer.item_ids)
    return replace(
        answer,
        item_ids=item_ids,
        scores=tuple(answer.scores[place] for place in places) if has_scores else (),
    )
