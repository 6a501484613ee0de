"""The retrieval service of the mesh: filters by the inverted index, then searches the nearest passing items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from pyroaring import BitMap

from meshfold.compat.mesh.items import Items
from meshfold.compat.mesh.nearest import Flat, Nearest, dots, open_ivf
from meshfold.compat.mesh.order import best
from meshfold.compat.mesh.postings import Postings, bits_of, rows_of
from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.program import FilterCompiler, Program
from meshfold.model.snapshot import Snapshot
from meshfold.model.types import Float32s, Int64s, Neighbours, SearchQuery

# Most excluded items that are dropped after the search; more are excluded by the selector.
_MOST_DROPPED = 512


@dataclass(frozen=True, eq=False)
class SearchInput:
    """A prepared search. queries: [Q, D] float32. excluded: [E] int64 - rows."""

    queries: Float32s
    program: Program
    excluded: Int64s
    k: int


class Retrieval:
    """Faiss and roaring bitmaps over one snapshot. Thread-safe."""

    def __init__(self, snapshot: Snapshot, items: Items, nearest: Nearest) -> None:
        self.schema = snapshot.schema
        self.version = snapshot.version
        self.surface = snapshot.schema.surface
        self.items = snapshot.content.items
        self.candidates = 0
        self._items = items
        self._nearest = nearest
        self._vectors: Float32s = items.vectors.numpy()
        self._compiler = FilterCompiler(self.schema, snapshot.vocabularies(), snapshot.layout())
        self._postings = Postings(snapshot, items)
        order = snapshot.index["rows"].numpy()
        self._popular: Int64s = order[snapshot.items["popular"].numpy()].astype(np.int64)

    @classmethod
    def open(
        cls,
        folder: Path,
        surface: str,
        indices: Path,
        candidates: int,
        exact: bool,
        seed: int = 0,
        recall: float = 0.0,
    ) -> Self:
        """Opens a snapshot. indices: folder of Faiss's files. seed: of their k-means. candidates: of a search; 0 for
        the model's number on a CPU. recall: that probes are calibrated for; 0 for the snapshot's measured recall.

        Raises SnapshotRefused where the folder is not a whole snapshot of the surface.
        """
        snapshot = Snapshot.open(folder, surface)
        items = Items(snapshot)
        depth = candidates or snapshot.content.config.candidates_on("cpu")
        vectors: Float32s = items.vectors.numpy()
        nearest = (
            Flat(vectors)
            if exact
            else open_ivf(snapshot, vectors, indices, min(depth, len(items)), seed, recall)
        )
        return cls(snapshot, items, nearest)

    def prepare_search(self, query: SearchQuery) -> SearchInput:
        """Raises InvalidQuery where the query does not fit the schema."""
        d = self._vectors.shape[1]
        for place, vector in enumerate(query.queries):
            if vector.size != d:
                raise InvalidQuery(f"queries[{place}]", f"has {vector.size} values; expected {d}")
        excluded = self._items.ids.rows_of(query.excluded_ids, "excluded_ids")
        return SearchInput(
            queries=np.concatenate([np.empty(0, np.float32), *query.queries]).reshape(-1, d),
            program=self._compiler.compile(query.filter),
            excluded=np.unique(excluded[excluded >= 0]),
            k=query.k,
        )

    def search(self, batch: Sequence[SearchInput]) -> list[Neighbours]:
        return [self._search(query) for query in batch]

    def _search(self, query: SearchInput) -> Neighbours:
        if not len(query.queries):
            return Neighbours(self.version, (), ())
        passing = self._postings.passing(query.program)
        if not query.queries.any():
            rows = self._most_popular(passing, query)
            return self._answer([(rows, self._items.popularity[rows])] * len(query.queries))
        if passing is None and len(query.excluded) > _MOST_DROPPED:
            passing = BitMap(range(len(self._items)))
        if passing is None:
            return self._answer(self._of_all(query))
        passing = passing - BitMap(query.excluded.astype(np.uint32))
        if len(passing) <= max(query.k, self._nearest.few * len(self._items)):
            rows = rows_of(passing).astype(np.int64)
            return self._answer(
                [self._best(rows, dots(q, self._vectors, rows), query.k) for q in query.queries]
            )
        found = self._nearest.search(query.queries, query.k, bits_of(passing, len(self._items)), len(passing))
        return self._answer([self._best(rows, s, query.k) for s, rows in zip(*found, strict=True)])

    def _of_all(self, query: SearchInput) -> list[tuple[Int64s, Float32s]]:
        """Searches without a selector, which would slow down every comparison; excluded items are dropped
        afterwards."""
        n = len(self._items)
        k = min(query.k + len(query.excluded), n)
        found = []
        for similarities, rows in zip(*self._nearest.search(query.queries, k, None, n), strict=True):
            if len(query.excluded):
                left = np.isin(rows, query.excluded, invert=True)
                rows, similarities = rows[left], similarities[left]
            found.append(self._best(rows, similarities, query.k))
        return found

    def _best(self, rows: Int64s, similarities: Float32s, k: int) -> tuple[Int64s, Float32s]:
        """The k best in order; rows of -1 are dropped."""
        there = rows >= 0
        if not there.all():
            rows, similarities = rows[there], similarities[there]
        places = best(rows, similarities, k)
        return rows[places], similarities[places]

    def _most_popular(self, passing: BitMap | None, query: SearchInput) -> Int64s:
        eligible = np.full(len(self._items), passing is None)
        if passing is not None:
            eligible[rows_of(passing)] = True
        eligible[query.excluded] = False
        rows: Int64s = self._popular[eligible[self._popular]][: query.k]
        return rows

    def _answer(self, found: Sequence[tuple[Int64s, Float32s]]) -> Neighbours:
        return Neighbours(
            self.version,
            tuple(self._items.ids.at(rows) for rows, _ in found),
            tuple(similarities for _, similarities in found),
        )
