"""A small catalog whose index misses items, and pairs of answers to requests for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from meshfold.compat.mesh_messages import encode_request
from meshfold.compat.shadow.attribution.model_lists import ModelLists
from meshfold.compat.shadow.attribution.ranking import Ranking
from meshfold.compat.shadow.comparison import Difference
from meshfold.compat.shadow.pairs import Pair, SideAnswer
from meshfold.model.build import publish
from meshfold.model.config import IndexConfig
from meshfold.model.data.catalog import Catalog, Column
from meshfold.model.filter.text import parse_filter
from meshfold.model.schema import Field, FieldKind, Schema
from meshfold.model.snapshot import Snapshot
from meshfold.model.store import Store
from meshfold.model.types import QUERY_VECTOR, Query

ITEMS, D, K = 2000, 8, 20
SURFACE = "films"
FIELDS = (
    Field("title", FieldKind.TEXT),
    Field("genre", FieldKind.CATEGORY),
    Field("tags", FieldKind.CATEGORIES),
    Field("year", FieldKind.INTEGER),
    Field("price", FieldKind.NUMBER),
)
# A third passes; `not` alone leaves two thirds.
FILTER = 'year >= 1990 && !(genre == "g0")'


def catalog_of(ids: Sequence[int] = range(ITEMS)) -> Catalog:
    """Items with these ids of one and the same catalog."""
    vectors = np.random.default_rng(0).standard_normal((ITEMS, D)).astype(np.float32)
    columns = {
        "genre": Column.of_strings(FieldKind.CATEGORY, [[f"g{i % 3}"] if i % 7 else [] for i in ids]),
        "tags": Column.of_strings(FieldKind.CATEGORIES, [[f"t{i % 5}", f"t{i % 11}"] for i in ids]),
        "year": Column.of_integers(FieldKind.INTEGER, [[1980 + i % 20] for i in ids]),
        "price": Column.of_numbers(np.array([i % 100 / 4 for i in ids])),
    }
    chosen = np.array(ids, np.int64)
    return Catalog(
        Schema(SURFACE, FIELDS, ("watch", "like")),
        chosen,
        columns,
        lambda: iter([vectors[chosen]]),
        D,
        texts={"title": [f"film {i}" for i in ids]},
    )


def published(root: Path, ids: Sequence[int] = range(ITEMS)) -> Snapshot:
    """A snapshot whose index scores few items, so that it misses some."""
    config = IndexConfig(clusters=40, candidates=50, recall_depth=50)
    snapshot = Snapshot.open(publish(catalog_of(ids), Store(root), config))
    return replace(snapshot, content=replace(snapshot.content, scan_budget=0))


def query_of(number: int, filter_: str = "", **parts: object) -> Query:
    vector = np.random.default_rng(100 + number).standard_normal(D).astype(np.float32)
    return Query(
        SURFACE,
        K,
        request_id=f"request-{number}",
        features={QUERY_VECTOR: vector},
        filter=parse_filter(filter_) if filter_ else None,
        **parts,  # type: ignore[arg-type]
    )


def pair_of(query: Query, model: SideAnswer, mesh: SideAnswer) -> Pair:
    return Pair(query.request_id, SURFACE, mesh=mesh, model=model, request=encode_request(query))


def answer_of(ranking: Ranking, version: str = "", k: int = K) -> SideAnswer:
    ids = [item for item in ranking.ids[:k] if isinstance(item, int)]
    return SideAnswer(tuple(ids), tuple(ranking.values[:k]), version=version)


def exact(lists: ModelLists, query: Query) -> Ranking:
    (ranking,) = lists.exact([query])
    return ranking


def served(lists: ModelLists, query: Query) -> Ranking:
    (ranking,) = lists.served([query])
    return ranking


def causes(differences: Sequence[Difference]) -> dict[int | str, str]:
    return {d.item_id: d.cause.value for d in differences}
