"""How many pairs a second get causes, over a large generated catalog.

The model's answers are those of its index; the mesh's are the exact ones less what another index missed, some of every
hundred items. Half of the requests have a filter. The snapshot is kept in build/attribution.

    python -m benchmarks.shadow.attribution --items 1000000
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.arguments import arguments
from benchmarks.report import bench
from meshfold.commands import console
from meshfold.compat.mesh_messages import encode_request
from meshfold.compat.shadow.attribution import Attribution
from meshfold.compat.shadow.attribution.causes import TOGETHER
from meshfold.compat.shadow.attribution.model_lists import ModelLists
from meshfold.compat.shadow.attribution.ranking import Ranking
from meshfold.compat.shadow.pairs import Pair, SideAnswer
from meshfold.model.build import publish
from meshfold.model.config import IndexConfig
from meshfold.model.data.catalog import Catalog, Column
from meshfold.model.data.generated import item_vectors, user_vectors
from meshfold.model.filter.expression import Match, Not
from meshfold.model.schema import Field, FieldKind, Schema
from meshfold.model.snapshot import Snapshot
from meshfold.model.store import Store
from meshfold.model.types import QUERY_VECTOR, Query

SURFACE, GENRES = "generated", 8
# Share of the mesh's items that its index misses.
MISSED = 0.03


def main() -> None:
    parser = arguments(__doc__, work="build/attribution", items=1_000_000, dimension=128)
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--results", type=int, default=100)
    args = parser.parse_args()
    snapshot = Snapshot.open(published(args.work, args.items, args.dimension))
    pairs = pairs_of(ModelLists(snapshot), args.pairs, args.results, args.dimension, args.items)
    attribution = Attribution(snapshot)
    attribution.notice(pairs)
    # The first pass through each module sets up much that later ones find.
    attribution.differences_of(pairs[:TOGETHER])
    start_s, start_busy_s = time.perf_counter(), time.process_time()
    found = attribution.differences_of(pairs)
    seconds, busy_s = time.perf_counter() - start_s, time.process_time() - start_busy_s
    causes = Counter(d.cause.value for of_pair in found for d in of_pair)
    print(
        f"{len(pairs)} pairs in {seconds:.1f} s on {torch.get_num_threads()} threads,"
        f" {1000 * busy_s / len(pairs):.1f} ms of a processor each; causes: {dict(causes)}"
    )
    told = {"name": "attribution", "pairs_per_s": round(len(pairs) / seconds, 1), "items": args.items}
    bench(told)


def published(work: Path, items: int, dimension: int) -> Path:
    """The snapshot's folder. Few clusters and rounds: what is measured reads every item anyway."""
    store = Store(work / f"store-{items}x{dimension}")
    if folders := store.published(SURFACE):
        return folders[0]
    genres = np.random.default_rng(1).integers(0, GENRES, items)
    schema = Schema(SURFACE, (Field("genre", FieldKind.CATEGORY),), ("watch",), generated=True)
    column = Column.of_strings(FieldKind.CATEGORY, [[f"genre {g}"] for g in genres.tolist()])
    ids = np.arange(items)
    catalog = Catalog(schema, ids, {"genre": column}, lambda: item_vectors(items, dimension), dimension)
    with console.progress() as progress:
        return publish(catalog, store, IndexConfig(clusters=1000, iterations=2, recall_depth=100), progress)


def pairs_of(lists: ModelLists, count: int, results: int, dimension: int, items: int) -> list[Pair]:
    users = user_vectors(count, dimension, items=items)
    random = np.random.default_rng(2)
    pairs = []
    for start in range(0, count, TOGETHER):
        queries = [
            Query(SURFACE, results, request_id=f"request-{place}", features={QUERY_VECTOR: users[place]})
            for place in range(start, min(count, start + TOGETHER))
        ]
        queries = [
            replace(q, filter=Not(Match("genre", (f"genre {place % GENRES}",)))) if place % 2 else q
            for place, q in enumerate(queries)
        ]
        for query, served, exact in zip(queries, lists.served(queries), lists.exact(queries), strict=True):
            kept = np.flatnonzero(random.random(2 * results) >= MISSED)[:results].tolist()
            mesh = Ranking([exact.ids[i] for i in kept], [exact.values[i] for i in kept])
            pairs.append(
                Pair(
                    query.request_id,
                    SURFACE,
                    # One version on both sides, so that an absent item is a miss of the index.
                    mesh=replace(answer_of(mesh, results), version=lists.snapshot.version),
                    model=answer_of(served, results),
                    max_results=results,
                    request=encode_request(query),
                )
            )
    return pairs


def answer_of(ranking: Ranking, results: int) -> SideAnswer:
    ids = [item for item in ranking.ids[:results] if isinstance(item, int)]
    return SideAnswer(tuple(ids), tuple(ranking.values[:results]))


if __name__ == "__main__":
    main()
