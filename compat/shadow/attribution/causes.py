"""Finds the causes of the differences between two answers; docs/comparison.md describes the method."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from meshfold.compat.mesh_v1 import retrieve
from meshfold.compat.mesh_v1.messages import parse
from meshfold.compat.shadow.attribution.mesh_facts import MeshFacts, MeshStages
from meshfold.compat.shadow.attribution.mesh_side import MeshSide
from meshfold.compat.shadow.attribution.model_lists import ModelLists
from meshfold.compat.shadow.attribution.model_side import ModelSide
from meshfold.compat.shadow.attribution.question import Question
from meshfold.compat.shadow.attribution.ranking import Ranking
from meshfold.compat.shadow.attribution.retrieval_misses import RetrievalMisses
from meshfold.compat.shadow.catalog import Item, SnapshotCatalog
from meshfold.compat.shadow.comparison import Cause, Difference
from meshfold.compat.shadow.pairs import OK, Pair, SideAnswer
from meshfold.model.errors import InvalidQuery, MeshfoldError
from meshfold.model.snapshot import Snapshot
from meshfold.protos.mesh.v1 import orchestrator_pb2

# Most pairs whose exact searches share one read of the items.
TOGETHER = 32


class Attribution:
    """Finds the cause of each item that is in only one answer of a pair.

    counted: number of pairs whose causes stay unknown, by reason. Not thread-safe.
    """

    def __init__(self, snapshot: Snapshot, mesh: MeshFacts | None = None, device: str = "cpu") -> None:
        """snapshot: the model's. mesh: the mesh's services and items, where known. device: "cpu" or "cuda", the model's
        kind of device, which determines the number of ranked candidates."""
        self.counted: Counter[str] = Counter()
        self._lists = ModelLists(snapshot, device)
        self._catalog = SnapshotCatalog(snapshot)
        self._stages = MeshStages(mesh or MeshFacts(), snapshot.schema.exclude_history)
        self._misses = RetrievalMisses(self._lists, self._stages, snapshot.content.config.merge)
        self._model = ModelSide(self._lists, self._catalog)
        self._mesh = MeshSide(self._lists, self._catalog, self._stages, self._misses)

    def close(self) -> None:
        self._stages.close()

    def notice(self, pairs: Sequence[Pair]) -> None:
        """Learns from answers which items the mesh has; call it with all pairs before differences(). Where the mesh's
        retrieval cannot be called, an item that is in none of its answers has no known cause."""
        for pair in pairs:
            for answer in (pair.mesh, pair.again):
                if answer is not None and answer.status == OK:
                    self._misses.notice(answer.item_ids)

    def differences(self, pair: Pair) -> tuple[Difference, ...]:
        """The differences of a pair: items missing from the mesh's answer by rank, then those missing from the model's.
        Empty where a side has no answer."""
        return self.differences_of([pair])[0]

    def differences_of(self, pairs: Sequence[Pair]) -> list[tuple[Difference, ...]]:
        """The differences of several pairs; several times as fast, since their searches share reads of items."""
        self.notice(pairs)
        questions = [self._question(pair) for pair in pairs]
        asked = [(i, q) for i, q in enumerate(questions) if q is not None and q.differing]
        causes: dict[int, dict[Item, Cause]] = {}
        parts = [asked[start : start + TOGETHER] for start in range(0, len(asked), TOGETHER)]
        with ThreadPoolExecutor(1) as ahead:
            # The next part is searched while the causes of one part are found.
            searches = deque(ahead.submit(self._exact, [q for _, q in part]) for part in parts[:1])
            for place, part in enumerate(parts, 1):
                found = searches.popleft().result()
                searches.extend(
                    ahead.submit(self._exact, [q for _, q in p]) for p in parts[place : place + 1]
                )
                for (i, question), exact in zip(part, found, strict=True):
                    causes[i] = self._causes(question, exact)
        return [tuple(_differences(pair, causes.get(i, {}))) for i, pair in enumerate(pairs)]

    def _question(self, pair: Pair) -> Question | None:
        if pair.mesh is None or pair.model is None or not pair.mesh.status == pair.model.status == OK:
            return None
        if not pair.request or pair.is_redacted:
            self.counted["the request is not there, or redacted"] += 1
            return None
        try:
            request = parse(orchestrator_pb2.RetrieveRequest, pair.request)
            query = retrieve.query_of(request)
        except InvalidQuery:
            self.counted["the request does not decode"] += 1
            return None
        surface = self._lists.schema.surface
        if (request.surface or surface) != surface:
            self.counted["the request is of another surface"] += 1
            return None
        if not (self._catalog.fits(pair.mesh.item_ids) and self._catalog.fits(pair.model.item_ids)):
            self.counted["the item ids are of another kind than the snapshot's"] += 1
            return None
        request.surface = surface
        return Question(request, query, _finite(pair.mesh), _finite(pair.model))

    def _exact(self, questions: Sequence[Question]) -> list[Ranking | None]:
        """The exact rankings; None for requests that do not fit the snapshot."""
        try:
            return list(self._lists.exact([q.query for q in questions]))
        except MeshfoldError:
            if len(questions) > 1:
                return [self._exact([q])[0] for q in questions]
            self.counted["the request does not fit the snapshot"] += 1
            return [None]

    def _causes(self, asked: Question, exact: Ranking | None) -> dict[Item, Cause]:
        if exact is None:
            return {}
        try:
            chain = self._model.chain(asked, exact)
            self._mesh.add_to(chain, asked, exact)
        except MeshfoldError as error:
            self.counted[f"{type(error).__name__} of a service of the mesh"] += 1
            return {}
        return {item: chain.cause_of(item) for item in asked.differing}


def _finite(answer: SideAnswer) -> SideAnswer:
    """The answer, without its scores where any of them is no finite number."""
    return answer if all(map(math.isfinite, answer.scores)) else replace(answer, scores=())


def _differences(pair: Pair, causes: dict[Item, Cause]) -> Iterator[Difference]:
    if pair.mesh is None or pair.model is None or not pair.mesh.status == pair.model.status == OK:
        return
    for missing_from, one, other in (("mesh", pair.model, pair.mesh), ("model", pair.mesh, pair.model)):
        items: list[Item] = [*one.item_ids]
        others, done = frozenset[Item](other.item_ids), set[Item]()
        for rank, item in enumerate(items, 1):
            if item not in others and item not in done:
                done.add(item)
                yield Difference(item, missing_from, rank, causes.get(item, Cause.UNKNOWN))
