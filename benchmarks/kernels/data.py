"""Data of `compare.py`: items, two sets of queries, fields to filter by, and the exact answers.

Items and queries are those of meshfold/model/data/generated.py. Fields hold one integer an item: `any10`, `any100`
and `any1000` have 10, 100 and 1000 values, drawn independently of the vectors; `region10`, `region100` and `region1000`
cut the space into 10, 100 and 1000 regions of about equal size, near a query or far from it.
All is kept in a folder, so that a second run starts in seconds; after a change to this file, remove it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import torch

from meshfold.model.data.generated import item_like_queries, item_vectors, user_vectors
from meshfold.model.filter.expression import All, Expression, Match
from meshfold.model.huge_pages import in_huge_pages
from meshfold.model.types import Float32s, Int64s

KINDS = {"item-like": item_like_queries, "user-like": user_vectors}
# Results wanted: the depths at which answers are kept.
DEPTHS = (100, 1000, 10_000)
GROUPS = (10, 100, 1000)
# By score, so that ties are no misses; float32 sums in another order differ by less.
_TIE = 1e-6
_REGION_SAMPLE = 50_000

# One value of each field that must be met, all of them: what passes for one query.
Terms = tuple[tuple[str, int], ...]

# Arrays of a file, by name.
Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Filter:
    """rate: share of passing items. relation: of passing items to the query. fields: with the values that decide."""

    rate: float
    relation: str
    fields: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        share = f"{self.rate * 100:g} %"
        return share if not self.fields else f"{share} {self.relation}"


FILTERS = (
    Filter(1.0, "all"),
    *(Filter(1 / n, "independent", (f"any{n}",)) for n in GROUPS),
    Filter(0.001, "of two terms", ("any10", "any100")),
    *(Filter(1 / n, side, (f"region{n}",)) for n in GROUPS for side in ("near", "far")),
)


def expression(terms: Terms) -> Expression | None:
    """The filter as our compiler takes it."""
    matches = tuple(Match(field, ints=(value,)) for field, value in terms)
    return None if not matches else matches[0] if len(matches) == 1 else All(matches)


@dataclass(frozen=True, eq=False)
class Data:
    """vectors: [N, D] float32. queries: [Q, D] float32 by kind. columns: [N] by field, as narrow as they go.
    means: [values, D] float32 by region field."""

    folder: Path
    vectors: Float32s
    queries: Mapping[str, Float32s]
    columns: Mapping[str, npt.NDArray[np.unsignedinteger]]
    means: Mapping[str, Float32s]

    @classmethod
    def load(cls, folder: Path, items: int, dimension: int, queries: int) -> Data:
        folder.mkdir(parents=True, exist_ok=True)
        drawn = kept(
            folder / "vectors.npz",
            lambda: {"vectors": np.concatenate(list(item_vectors(items, dimension)))},
        )
        vectors = _aligned(drawn["vectors"])
        fields = kept(folder / "fields.npz", lambda: _fields(vectors))
        columns = {name: column.astype(np.min_scalar_type(column.max())) for name, column in fields.items()}
        means = {
            name: np.stack([vectors[column == v].mean(0) for v in range(column.max() + 1)])
            for name, column in columns.items()
            if name.startswith("region")
        }
        sets = {kind: _aligned(draw(queries, dimension, items=items)) for kind, draw in KINDS.items()}
        return cls(folder, vectors, sets, columns, means)

    def terms(self, kind: str, filter_: Filter, query: int) -> Terms:
        """The values that one query's filter asks for; other ones for each query."""
        if filter_.relation in ("near", "far"):
            (field,) = filter_.fields
            scores = self.means[field] @ self.queries[kind][query]
            value = np.argmax(scores) if filter_.relation == "near" else np.argmin(scores)
            return ((field, int(value)),)
        return tuple((f, (query * 7 + 3) % (int(self.columns[f].max()) + 1)) for f in filter_.fields)

    def passes(self, terms: Terms, items: Int64s) -> npt.NDArray[np.bool_]:
        """Whether each of the items passes."""
        passed = np.ones(len(items), bool)
        for field, value in terms:
            passed &= self.columns[field][items] == value
        return passed

    def answers(self, kind: str) -> Answers:
        """The exact answers to a set of queries, in float32."""
        path = self.folder / f"answers-{kind}-{len(self.queries[kind])}.npz"
        found = kept(path, lambda: self._search(kind))
        return Answers(self, kind, found["worst"], found["eligible"])

    def _search(self, kind: str) -> Arrays:
        queries = self.queries[kind]
        worst = np.zeros((len(FILTERS), len(queries), len(DEPTHS)), np.float32)
        eligible = np.zeros((len(FILTERS), len(queries)), np.int64)
        every = np.arange(len(self.vectors))
        for i, query in enumerate(queries):
            scores = self.vectors @ query
            for f, filter_ in enumerate(FILTERS):
                passed = scores[self.passes(self.terms(kind, filter_, i), every)]
                eligible[f, i] = len(passed)
                depths = [min(depth, len(passed)) for depth in DEPTHS]
                places = [len(passed) - depth for depth in depths]
                worst[f, i] = np.partition(passed, places)[places] if len(passed) else np.inf
        return {"worst": worst, "eligible": eligible}


@dataclass(frozen=True, eq=False)
class Answers:
    """worst: [filters, Q, depths] float32 - the score of the last exact result. eligible: [filters, Q] int64."""

    data: Data
    kind: str
    worst: Float32s
    eligible: Int64s

    def recall(self, filter_: Filter, k: int, query: int, items: Int64s) -> float:
        """Share of the k best eligible items, or of all where there are fewer, that `items` holds.

        items: ids, -1 for nothing; a result that does not pass the filter counts as missed.
        """
        place = FILTERS.index(filter_)
        wanted = min(k, int(self.eligible[place, query]))
        unique = np.unique(items[items >= 0])
        unique = unique[self.data.passes(self.data.terms(self.kind, filter_, query), unique)]
        scores = self.data.vectors[unique] @ self.data.queries[self.kind][query]
        found = int((scores >= self.worst[place, query, DEPTHS.index(k)] - _TIE).sum())
        return min(found, wanted) / wanted if wanted else 1.0


def kept(path: Path, make: Callable[[], Arrays]) -> Arrays:
    """The arrays of a file, made where it is not there."""
    if not path.exists():
        partial = path.with_suffix(".partial.npz")
        made: Mapping[str, Any] = make()
        np.savez(partial, **made)
        partial.rename(path)
    with np.load(path) as arrays:
        return dict(arrays)


def _aligned(vectors: Float32s) -> Float32s:
    """A copy that begins at a cache line, as do its rows then: dots of other floats take up to a third longer."""
    copy: Float32s = in_huge_pages(torch.from_numpy(vectors)).numpy()
    return copy


def _fields(vectors: Float32s) -> dict[str, Int64s]:
    rng = np.random.default_rng(0)
    drawn = {f"any{n}": rng.integers(0, n, len(vectors)) for n in GROUPS}
    return drawn | {f"region{n}": _regions(vectors, n) for n in GROUPS}


def _regions(vectors: Float32s, regions: int) -> Int64s:
    """[N] int64 - the nearest centre of each vector, with a bonus a centre that evens out the sizes."""
    learner = faiss.Kmeans(vectors.shape[1], regions, niter=10, seed=0, min_points_per_centroid=1)
    learner.train(vectors[:: max(1, len(vectors) // (100 * regions))])
    centres = learner.centroids
    bonus = -0.5 * (centres**2).sum(1)
    sample = vectors[:: max(1, len(vectors) // _REGION_SAMPLE)] @ centres.T
    target = len(sample) / regions
    for step in range(100):
        sizes = np.bincount((sample + bonus).argmax(1), minlength=regions)
        bonus -= np.float32(0.05 / (1 + 0.05 * step)) * np.log((sizes + 1) / (target + 1)).astype(np.float32)
    parts: Sequence[Float32s] = np.array_split(vectors, max(1, len(vectors) // 65_536))
    return np.concatenate([(part @ centres.T + bonus).argmax(1) for part in parts])
