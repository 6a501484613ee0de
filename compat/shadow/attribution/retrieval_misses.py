"""Why a mesh's retrieval did not find items: they are not in its catalog, its filter excludes them, or its index missed
them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from meshfold.compat.shadow.attribution.cut import Cut, is_ordered
from meshfold.compat.shadow.attribution.mesh_facts import MeshStages
from meshfold.compat.shadow.attribution.model_lists import ModelLists
from meshfold.compat.shadow.attribution.question import Question
from meshfold.compat.shadow.attribution.ranking import Ranking
from meshfold.compat.shadow.catalog import Item
from meshfold.compat.shadow.comparison import Cause
from meshfold.model.config import Merge
from meshfold.model.types import Float32s
from meshfold.protos.mesh.v1 import orchestrator_pb2

# Number of neighbours among which an item is searched by its own vector, first and at the second try.
_NEAR, _WIDE = 256, 4096
# Most items searched in this way for one pair, and most items whose result is remembered.
_MOST_LOOKED_UP, _MOST_REMEMBERED = 512, 1_000_000
# Repeated searches for one pair, since replicas of retrieval take turns and may differ.
_SEARCHES = 4
# Most rounds of removing missed items until no further item is missed.
_ROUNDS = 8


@dataclass
class Misses:
    """Items of the exact list that retrieval did not find. filtered: excluded by its filter. lacking: not in its
    catalog. missed: in its catalog and eligible."""

    filtered: set[Item] = field(default_factory=set)
    lacking: set[Item] = field(default_factory=set)
    missed: set[Item] = field(default_factory=set)

    def all(self) -> set[Item]:
        return self.filtered | self.lacking | self.missed


class RetrievalMisses:
    """Finds out why items were not retrieved. notice() takes the mesh's answers, whose items are in its catalog."""

    def __init__(self, lists: ModelLists, stages: MeshStages, merge: Merge) -> None:
        self._lists = lists
        self._stages = stages
        self._merge = merge
        self._version = lists.snapshot.version
        self._seen: OrderedDict[Item, None] = OrderedDict()
        self._absent: set[Item] = set()

    def notice(self, items: Sequence[Item]) -> None:
        for item in items:
            self._seen[item] = None
            self._seen.move_to_end(item)
            self._absent.discard(item)
        while len(self._seen) > _MOST_REMEMBERED:
            self._seen.popitem(last=False)

    def of(
        self, asked: Question, vectors: Float32s, ranking: Ranking, answered: Mapping[Item, float]
    ) -> Misses:
        """The items among the ranking's best that retrieval did not find.

        vectors: [T, D] float32 - the mesh's. answered: values of items of the mesh's answer that the ranking lacks.
        """
        if self._stages.searches:
            return self._by_search(asked, vectors, ranking, answered)
        return self._by_answers(asked, ranking, answered)

    def of_rest(self, asked: Question, vectors: Float32s) -> Callable[[Item], Cause]:
        """The cause of items that are found and scored but missing from an answer with ordered scores."""
        if not self._stages.searches:
            return lambda _: Cause.UNKNOWN
        found: list[set[Item]] = []

        def cause_of(item: Item) -> Cause:
            if item in asked.mesh_items:
                return Cause.UNKNOWN
            # Where replicas differ, one that does not find the item may have answered.
            for turn in range(_SEARCHES):
                if turn == len(found):
                    found.append(set(self._found(asked, vectors)))
                if item not in found[turn]:
                    return Cause.MESH_ANN_MISS
            return Cause.MERGE

        return cause_of

    def _by_search(
        self, asked: Question, vectors: Float32s, ranking: Ranking, answered: Mapping[Item, float]
    ) -> Misses:
        found: set[Item] | None = None
        misses = Misses()
        for _ in range(_ROUNDS):
            lacking = ranking.changed(misses.all(), answered).top(asked.k) - asked.mesh_items
            if lacking and found is None:
                found = set(self._found(asked, vectors))
            absent = [item for item in lacking if item not in (found or ())]
            if not absent:
                break
            self._sort(asked, absent[:_MOST_LOOKED_UP], misses)
        return misses

    def _by_answers(self, asked: Question, ranking: Ranking, answered: Mapping[Item, float]) -> Misses:
        held = self._stages.facts.item_ids
        # A mesh whose answer names the snapshot's version serves that snapshot.
        has_all = asked.mesh.version == self._version
        misses = Misses()
        # In an unordered answer, or with repeated items, a missing item proves nothing.
        if not is_ordered(asked.mesh.scores) or len(asked.mesh_items) < len(asked.mesh.item_ids):
            return misses
        for _ in range(_ROUNDS):
            new = self._far(asked, ranking.changed(misses.all(), answered))
            lacking = [] if held is None else [item for item in new if item not in held]
            there = has_all or held is not None
            missed = [item for item in new if item not in lacking and (there or item in self._seen)]
            if not lacking and not missed:
                break
            misses.lacking.update(lacking)
            misses.missed.update(missed)
        return misses

    def _far(self, asked: Question, ranking: Ranking) -> list[Item]:
        """Items among the ranking's best that the answer lacks, not explained by rounding or its length."""
        lacking = ranking.top(asked.k) - asked.mesh_items
        if not lacking:
            return []
        cut = Cut(asked.mesh.item_ids, asked.mesh.scores, ranking, asked.k, {}, lambda _: Cause.UNKNOWN)
        return [item for item in lacking if not cut.is_close(item) and not cut.is_after_end(item)]

    def _found(self, asked: Question, vectors: Float32s) -> list[Item]:
        depth = self._stages.facts.candidates or self._lists.depth(asked.k)
        return self._stages.found(asked.request, vectors, depth, self._merge)

    def _sort(self, asked: Question, absent: list[Item], misses: Misses) -> None:
        """Divides items that the user's search does not find into the kinds of Misses."""
        known = [i for i, known in zip(absent, self._lists.knows(absent), strict=True) if known]
        misses.missed.update(set(absent) - set(known))
        if not known:
            return
        vectors = dict(zip(known, self._lists.item_vectors(known), strict=True))
        admitted = self._reached(known, vectors, asked.request)
        misses.missed |= admitted
        left = [item for item in known if item not in admitted]
        unsure = [item for item in left if item not in self._seen and item not in self._absent]
        unfiltered = orchestrator_pb2.RetrieveRequest(surface=asked.request.surface)
        there = self._reached(unsure, vectors, unfiltered)
        self.notice(list(there))
        self._absent.update(set(unsure) - there)
        misses.filtered |= {item for item in left if item in self._seen}
        misses.lacking |= {item for item in left if item not in self._seen}

    def _reached(
        self,
        items: list[Item],
        vectors: Mapping[Item, Float32s],
        request: orchestrator_pb2.RetrieveRequest,
    ) -> set[Item]:
        """The items that a search with their own vectors finds. request: gives filter and exclusions."""
        found: set[Item] = set()
        for k in (_NEAR, _WIDE):
            left = [item for item in items if item not in found]
            if left:
                found |= self._stages.reaches(request, left, np.stack([vectors[item] for item in left]), k)
        return found
