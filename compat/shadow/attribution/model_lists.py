"""Rankings of a snapshot, by its index and by exact search, and single parts of its forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from meshfold.compat.shadow.attribution.exact import ExactIndex
from meshfold.compat.shadow.attribution.ranking import Ranking
from meshfold.compat.shadow.catalog import Item, plain
from meshfold.model.config import Merge
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.schema import IdKind
from meshfold.model.snapshot import Snapshot
from meshfold.model.types import EmbedQuery, Float32s, Ids, Query, ScoreQuery, User
from meshfold.service.collation import Collation
from meshfold.service.preparation import Preparation
from meshfold.service.prepared import PreparedQuery


class ModelLists:
    """Rankings of one snapshot, computed on a CPU. depth(results): number of candidates on the serving device."""

    def __init__(self, snapshot: Snapshot, device: str = "cpu") -> None:
        """device: the serving kind of device, "cpu" or "cuda", which determines the number of candidates."""
        self.snapshot = snapshot
        content = snapshot.content
        self.schema = snapshot.schema
        self._preparation = Preparation(snapshot, content.config.candidates_on(device), False)
        self.depth = self._preparation.depth
        self._collation = Collation(self.schema, content.dimension)
        self._served = RetrievalModel.of(snapshot).eval()
        self._exact = self._served.over(
            self._served.filter, ExactIndex.of(snapshot), self._served.popular, self._served.popularity
        ).eval()
        self._ids = snapshot.item_ids()
        self._rows = snapshot.index["rows"].numpy()
        # With an intersection, the set of candidates depends on the requested number of results.
        self._ranks_all = content.config.merge is Merge.UNION

    def exact(self, queries: Sequence[Query]) -> list[Ranking]:
        """All candidates of an exact search, by value. Raises InvalidQuery where a query does not fit the schema."""
        return self._lists(self._exact, [self._ranking_all(query) for query in queries])

    def served(self, queries: Sequence[Query]) -> list[Ranking]:
        """The results that the snapshot's own index finds, by value. Raises the errors of `exact`."""
        # The requested number determines how many candidates a search rescores with full precision.
        return self._lists(self._served, [self._preparation.query(query) for query in queries])

    def _lists(self, model: RetrievalModel, prepared: Sequence[PreparedQuery]) -> list[Ranking]:
        batch = self._collation.queries(prepared)
        with torch.inference_mode():
            results = model(batch)
        lists = []
        for positions, values in zip(results.positions.numpy(), results.values.numpy(), strict=True):
            found = int((positions >= 0).sum())
            ids = self._ids.at(self._rows[positions[:found]].astype(np.int64))
            lists.append(Ranking(plain(ids), values[:found].tolist()))
        return lists

    def _ranking_all(self, query: Query) -> PreparedQuery:
        prepared = self._preparation.query(query)
        wanted = prepared.depth if self._ranks_all and query.max_per_value is None else query.max_results
        return replace(prepared, query=replace(prepared.query, max_results=wanted, explain=False))

    def vectors(self, users: Sequence[User]) -> Float32s:
        """Query vectors of users: [users, T, D] float32; zeros where nothing is known of a user. Raises
        InvalidQuery."""
        prepared = self._preparation.embed(EmbedQuery(self.schema.surface, tuple(users)))
        with torch.inference_mode():
            vectors, known = self._served.embed(self._collation.users(prepared))
        numbers: Float32s = torch.where(known[:, None, None], vectors, 0.0).numpy()
        return numbers

    def values(self, query: Query, item_ids: Sequence[Item]) -> dict[Item, float]:
        """Values of items for a query's user, eligible or not, without items that the snapshot lacks."""
        if not item_ids:
            return {}
        asked = ScoreQuery(
            self.schema.surface, query.user, self._own(item_ids), query.task_weights, query.value_formula
        )
        prepared = self._preparation.score(asked)
        with torch.inference_mode():
            values, _ = self._served.score(self._collation.scores([prepared]))
        known = plain(prepared.item_ids)
        return dict(zip(known, values[0, : len(known)].tolist(), strict=True))

    def knows(self, item_ids: Sequence[Item]) -> list[bool]:
        known: list[bool] = (self._ids.rows_of(self._own(item_ids)) >= 0).tolist()
        return known

    def item_vectors(self, item_ids: Sequence[Item]) -> Float32s:
        """Vectors of items of the snapshot: [n, D] float32."""
        rows = self._ids.rows_of(self._own(item_ids))
        positions = self.snapshot.items["positions"][torch.from_numpy(rows)].long()
        vectors: Float32s = self._served.index.vectors(positions).numpy()
        return vectors

    def _own(self, item_ids: Sequence[Item]) -> Ids:
        if self.schema.ids is IdKind.STRINGS:
            return tuple(str(item) for item in item_ids)
        return np.array(item_ids, np.int64)
