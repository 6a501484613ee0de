"""What causes take off a model's loss: the mesh's own faults and misses, and ties, do not count against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from meshfold.compat.shadow.comparison import Cause, Difference
from meshfold.compat.shadow.pairs import ItemIds, Pair, PairSide, SideAnswer

# Not the model's doing.
EXCUSED = frozenset((Cause.MESH_ANN_MISS, Cause.MESH_FILTER, Cause.MESH_CATALOG, Cause.TIE, Cause.PRECISION))
EXCUSED_OR_UNKNOWN = EXCUSED | {Cause.UNKNOWN}


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
        self._ends = Counter((one.missing_from, one.cause) for one in differences if one.rank <= self._at)

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
    """The pair less the items of either answer whose difference has one of the causes."""
    assert pair.mesh is not None
    assert pair.model is not None
    out = {(one.missing_from, one.item_id) for one in differences if one.cause in causes}
    return replace(
        pair,
        mesh=_less(pair.mesh, {item for side, item in out if side == PairSide.MODEL}),
        model=_less(pair.model, {item for side, item in out if side == PairSide.MESH}),
    )


def _less(answer: SideAnswer, items: Collection[int | str]) -> SideAnswer:
    kept = [place for place, item in enumerate(answer.item_ids) if item not in items]
    item_ids: ItemIds = tuple(answer.item_ids[place] for place in kept)  # type: ignore[assignment]
    has_scores = len(answer.scores) == len(answer.item_ids)
    return replace(
        answer, item_ids=item_ids, scores=tuple(answer.scores[place] for place in kept) if has_scores else ()
    )
