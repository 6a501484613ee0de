"""The mesh's half of a chain: from the exact list to the mesh's answer, one cause after another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from meshfold.compat.shadow.attribution.chain import Chain
from meshfold.compat.shadow.attribution.cut import PRECISION, Cut, precision_of
from meshfold.compat.shadow.attribution.mesh_facts import MeshStages
from meshfold.compat.shadow.attribution.model_lists import ModelLists
from meshfold.compat.shadow.attribution.question import Question
from meshfold.compat.shadow.attribution.ranking import Ranking
from meshfold.compat.shadow.attribution.retrieval_misses import RetrievalMisses
from meshfold.compat.shadow.attribution.suspects import list_of_faulty_filter
from meshfold.compat.shadow.catalog import Item, SnapshotCatalog, admission_of_query
from meshfold.compat.shadow.comparison import Cause
from meshfold.model.types import QUERY_VECTOR, Float32s, Query


@dataclass
class _World:
    """How the mesh values items.

    query: the query with the mesh's vectors. by_mesh: whether the mesh's scores differ from the model's. is_comparable:
    whether values of model and mesh can be compared. fault: the cause of different values. values: by the mesh's
    scores.
    """

    query: Query
    vectors: Float32s
    by_mesh: bool = False
    is_comparable: bool = True
    fault: Cause = Cause.MODEL_CATALOG
    values: dict[Item, float] = field(default_factory=dict)


class MeshSide:
    """Adds the mesh's half of a chain. stages: None where no service of the mesh can be called."""

    def __init__(
        self, lists: ModelLists, catalog: SnapshotCatalog, stages: MeshStages, misses: RetrievalMisses
    ) -> None:
        self._lists = lists
        self._catalog = catalog
        self._stages = stages
        self._misses = misses
        self._excludes_history = lists.schema.exclude_history

    def add_to(self, chain: Chain, asked: Question, exact: Ranking) -> None:
        """Adds the steps from the exact list, the present end of the chain, to the mesh's answer.

        Raises InvalidQuery, and the errors of services that do not answer.
        """
        k = asked.k
        unknown = self._unknown(asked)
        inner = exact.top(max(0, k - len(unknown)))
        world, ranking = self._by_vectors(chain, asked, exact, inner)
        ranking = self._by_scores(chain, asked, world, ranking, inner)
        ranking = self._with_unknown(chain, asked, world, ranking, unknown, inner)
        ranking = self._by_filter(chain, asked, world, ranking)
        if not world.is_comparable:
            chain.add(asked.mesh_items, Cause.UNKNOWN)
            return
        values = self._values(asked, world, asked.mesh_items - ranking.value_of.keys())
        misses = self._misses.of(asked, world.vectors, ranking, values)
        removed: set[Item] = set()
        for cause, items in ((Cause.MESH_FILTER, misses.filtered), (Cause.MESH_CATALOG, misses.lacking)):
            removed |= items
            chain.add(ranking.changed(removed, {}).top(k), cause)
        # An item of the mesh that is no candidate of the exact search took the place of a missed one.
        ranking = ranking.changed(removed | misses.missed, values)
        chain.add(ranking.top(k), Cause.MESH_ANN_MISS)
        otherwise = self._misses.of_rest(asked, world.vectors)
        cut = Cut(asked.mesh.item_ids, asked.mesh.scores, ranking, k, values, otherwise)
        chain.add(asked.mesh_items, cut.cause_of)

    def _by_vectors(
        self, chain: Chain, asked: Question, exact: Ranking, inner: frozenset[Item]
    ) -> tuple[_World, Ranking]:
        stages = self._stages
        if not (stages.embeds or stages.searches or stages.scores):
            # No service is called with them.
            return _World(asked.query, np.empty((0, 0), np.float32)), exact
        own = self._lists.vectors([asked.query.user])[0]
        if QUERY_VECTOR in asked.query.features or not self._stages.embeds:
            return _World(asked.query, own), exact
        vectors = self._stages.vectors(self._lists.schema.surface, [asked.request.user])[0]
        if vectors.shape != own.shape:
            return _World(asked.query, own, is_comparable=False), exact
        if same_vectors(own, vectors):
            return _World(asked.query, own), exact
        query = with_vectors(asked.query, vectors)
        (ranking,) = self._lists.exact([query])
        cause = self._cause_of_vectors(asked)
        chain.add(ranking.top(asked.k), _unless_displaced(cause, exact.top(asked.k) - inner))
        return _World(query, vectors, fault=cause), ranking

    def _cause_of_vectors(self, asked: Question) -> Cause:
        """The cause of different vectors: a catalog, where towers agree once items unknown to one side are dropped from
        the history; else the tower."""
        user = asked.request.user
        history = list(user.history_keys or user.history)
        if not history:
            return Cause.USER_VECTOR
        surface = self._lists.schema.surface
        in_model = self._lists.knows(history)
        singles = []
        for item in history:
            single = type(user)()
            single.CopyFrom(user)
            single.ClearField("history")
            single.ClearField("history_keys")
            (single.history_keys if isinstance(item, str) else single.history).append(item)
            singles.append(single)
        # A tower returns zeros where it knows no item of the history.
        in_mesh = [bool(v.any()) for v in self._stages.vectors(surface, singles)]
        if all(in_model) and all(in_mesh):
            return Cause.USER_VECTOR
        both = [item for item, a, b in zip(history, in_model, in_mesh, strict=True) if a and b]
        common = type(user)()
        common.CopyFrom(user)
        for name in ("history", "history_keys"):
            if len(getattr(user, name)):
                common.ClearField(name)
                getattr(common, name).extend(both)
        theirs = self._stages.vectors(surface, [common])[0]
        kept = tuple(both) if both and isinstance(both[0], str) else np.array(both, np.int64)
        ours = self._lists.vectors([replace(asked.query.user, history=kept)])[0]
        if not same_vectors(ours, theirs):
            return Cause.USER_VECTOR
        # The side that lacks more of the items is at fault.
        return Cause.MESH_CATALOG if in_mesh.count(False) > in_model.count(False) else Cause.MODEL_CATALOG

    def _by_scores(
        self, chain: Chain, asked: Question, world: _World, ranking: Ranking, inner: frozenset[Item]
    ) -> Ranking:
        shown = asked.mesh_items | ranking.top(asked.k)
        ours = {
            **self._lists.values(world.query, self._known(shown - ranking.value_of.keys())),
            **ranking.value_of,
        }
        if not self._stages.scores:
            theirs = asked.mesh_scores
            world.is_comparable = bool(theirs) and _agree(ours, theirs)
            return ranking
        theirs = self._stages.values(asked.request, world.vectors, shown)
        if _agree(ours, theirs):
            return ranking
        world.by_mesh = True
        world.values = theirs | self._stages.values(
            asked.request, world.vectors, [i for i in ranking.ids if i not in theirs]
        )
        # Items unknown to scoring keep their values here; the step of the catalog handles them.
        valued = Ranking.of((item, world.values.get(item, ranking.value_of[item])) for item in ranking.ids)
        chain.add(valued.top(asked.k), _unless_displaced(Cause.SCORES, ranking.top(asked.k) - inner))
        world.fault = Cause.SCORES
        return valued

    def _unknown(self, asked: Question) -> list[Item]:
        """The items of the mesh's answer that the snapshot lacks."""
        items: list[Item] = [*asked.mesh.item_ids]
        return [i for i, known in zip(items, self._lists.knows(items), strict=True) if not known]

    def _with_unknown(
        self,
        chain: Chain,
        asked: Question,
        world: _World,
        ranking: Ranking,
        unknown: list[Item],
        inner: frozenset[Item],
    ) -> Ranking:
        """Adds the step of items that the snapshot lacks, ranked by the mesh's scores."""
        if not unknown:
            return ranking
        scores = asked.mesh_scores
        # Without scores an item is placed just before the items that the answer lists after it.
        best = ranking.values[0] if ranking.values else 0.0
        ranking = ranking.changed((), {item: scores.get(item, best) for item in unknown})

        def cause_of(item: Item) -> Cause:
            # By the model's vectors and scores they would not have displaced this item.
            return world.fault if item in inner else Cause.MODEL_CATALOG

        chain.add(ranking.top(asked.k), cause_of)
        return ranking

    def _by_filter(self, chain: Chain, asked: Question, world: _World, ranking: Ranking) -> Ranking:
        """Adds the step of the filter, where the mesh's answer has items that the request does not admit."""
        admission = admission_of_query(asked.query, self._excludes_history)
        violators = self._catalog.not_admitted(admission, list(asked.mesh.item_ids))
        if not violators:
            return ranking
        faulty = list_of_faulty_filter(
            self._catalog, world.query, violators, asked.mesh_items, self._lists.exact
        )
        extra = {i: v for i, v in ranking.value_of.items() if not self._lists.knows([i])[0]} if faulty else {}
        if faulty is None:
            faulty = ranking
        elif world.by_mesh:
            left = [item for item in faulty.ids if item not in world.values]
            world.values |= self._stages.values(asked.request, world.vectors, left)
            faulty = faulty.valued(world.values)
        missing = set(violators) - faulty.value_of.keys()
        ranking = faulty.changed((), extra | self._values(asked, world, missing))
        chain.add(ranking.top(asked.k), Cause.MESH_FILTER)
        return ranking

    def _values(
        self, asked: Question, world: _World, items: set[Item] | frozenset[Item]
    ) -> dict[Item, float]:
        """Values of items of the mesh's answer: its own scores where they differ from the model's, else the model's."""
        if not items:
            return {}
        if world.by_mesh:
            return self._stages.values(asked.request, world.vectors, items)
        found = self._lists.values(world.query, self._known(items))
        return {i: s for i, s in asked.mesh_scores.items() if i in items} | found

    def _known(self, items: set[Item] | frozenset[Item]) -> list[Item]:
        ordered = list(items)
        return [i for i, known in zip(ordered, self._lists.knows(ordered), strict=True) if known]


def with_vectors(query: Query, vectors: Float32s) -> Query:
    """The query with other query vectors: [T, D] float32."""
    return replace(query, features={**query.features, QUERY_VECTOR: vectors.astype(np.float32).ravel()})


def same_vectors(a: Float32s, b: Float32s) -> bool:
    """Whether query vectors are equal up to rounding. a, b: [T, D] float32."""
    return bool((np.linalg.norm(a - b, axis=1) <= PRECISION * np.linalg.norm(a, axis=1)).all())


def _agree(ours: dict[Item, float], theirs: dict[Item, float]) -> bool:
    """Whether two sides' values of items are equal up to rounding."""
    common = list(ours.keys() & theirs.keys())
    a, b = (np.array([of[item] for item in common]) for of in (ours, theirs))
    allowed = np.maximum(PRECISION * np.maximum(np.abs(a), np.abs(b)), precision_of(a.tolist()))
    return bool((np.abs(a - b) <= allowed).all())


def _unless_displaced(cause: Cause, displaced: frozenset[Item]) -> Callable[[Item], Cause]:
    """The cause of a step, except for items that are displaced by items unknown to the snapshot."""
    return lambda item: Cause.MODEL_CATALOG if item in displaced else cause
