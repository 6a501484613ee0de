"""What causes take off a model's loss: the mesh's own faults and misses, and ties, do not count against it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from meshfold.compat.shadow.attribution.cut import goes_by_its_scores
from meshfold.compat.shadow.comparison import Cause, Difference
from meshfold.compat.shadow.pairs import ItemIds, Pair, PairSide, SideAnswer

# Not the model's doing, whatever the answers.
EXCUSED = frozenset((Cause.MESH_ANN_MISS, Cause.MESH_FILTER, Cause.MESH_CATALOG, Cause.TIE, Cause.PRECISION))


def excused_causes(pair: Pair, accepted: Collection[Cause] = ()) -> frozenset[Cause]:
    """Causes that do not count against the model in a pair. Both answers must be there.

    MERGE is among them where the mesh's answer contradicts its own scores and the model's goes by its own.
    """
    assert pair.mesh is not None
    assert pair.model is not None
    is_meshs = _follows_scores(pair.mesh) is False and _follows_scores(pair.model) is True
    return EXCUSED.union(accepted, (Cause.MERGE,) if is_meshs else ())


def _follows_scores(answer: SideAnswer) -> bool | None:
    """None where the answer has no scores that tell."""
    if len(answer.scores) != len(answer.item_ids) or not all(map(math.isfinite, answer.scores)):
        return None
    return goes_by_its_scores(answer.item_ids, answer.scores)


class Swaps:
    """The first results of both answers of a pair, of which one item takes another's place for a cause.

    Both answers must be OK. A swap has two ends, an item that is missing from the one answer and one that is missing
    from the other; a cause that explains either end explains the swap.
    """

    def __init__(self, pair: Pair, differences: Sequence[Difference], depth: int) -> None:
        """depth: how many results count, at most those of the longer answer; 0 for all."""
        assert pair.mesh is not None
        assert pair.model is not None
        mesh, model = dict.fromkeys(pair.mesh.item_ids), dict.fromkeys(pair.model.item_ids)
        longer = max(len(mesh), len(model))
        self._at = min(depth, longer) if depth else longer
        self._shared = len({*[*mesh][: self._at]} & {*[*model][: self._at]})
        held = {PairSide.MESH: {*[*model][: self._at]}, PairSide.MODEL: {*[*mesh][: self._at]}}
        self._ends = Counter(
            (one.missing_from, one.cause)
            for one in differences
            if one.item_id in held[PairSide(one.missing_from)]
        )

    def overlap(self, excused: Collection[Cause]) -> float:
        """With the swaps of some causes undone. 1 for two empty answers."""
        return min(1.0, (self._shared + self._of(excused)) / self._at) if self._at else 1.0

    def share(self, causes: Collection[Cause]) -> float:
        """Of the results, those that are swapped for some causes."""
        return self._of(causes) / self._at if self._at else 0.0

    def _of(self, causes: Collection[Cause]) -> int:
        return max(
            sum(self._ends[side.value, cause] for cause in causes) for side in (PairSide.MESH, PairSide.MODEL)
        )


def without(pair: Pair, differences: Sequence[Difference], causes: Collection[Cause]) -> Pair:
    """The pair less the items of either answer whose difference has one of the causes. Where MERGE is one of them, the
    mesh's answer is in the order of its own scores."""
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
    """The pair with the mesh's answer in the order of its own scores, all of which must be there."""
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
