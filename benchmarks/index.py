"""The index at default settings on generated data: recall, items scored, time of a forward pass.

Exact search in plain torch (a float32 product with every eligible item, then top-k) stands beside it, as peer
and as oracle of recall, in the same process, on the same threads, alternating with it query by query.

    python -m benchmarks.index --items 100000
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.arguments import arguments
from benchmarks.report import written
from benchmarks.rows import Row
from meshfold.commands import console
from meshfold.model.build import publish
from meshfold.model.config import IndexConfig
from meshfold.model.data.catalog import Catalog, Column
from meshfold.model.data.generated import item_like_queries, item_vectors, user_vectors
from meshfold.model.filter.text import parse_filter
from meshfold.model.progress import Progress
from meshfold.model.schema import Field, FieldKind, Schema
from meshfold.model.store import Store
from meshfold.model.types import QUERY_VECTOR, Query
from meshfold.service.runner import Runner

RESULTS_WANTED = 1000
BUCKETS = 100
PASS_RATES = {"all pass": BUCKETS, "10 % pass": 10, "1 % pass": 1}


def main() -> None:
    parser = arguments(__doc__, keep=True, items=100_000, dimension=128)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as work, console.progress() as progress:
        rows = measure(Path(work), args.items, args.dimension, args.queries, progress)
    console.table(
        ["case", *rows[0].figures],
        [[row.case, *(round(v, 4) for v in row.figures.values())] for row in rows],
        f"{args.items:,} items x {args.dimension}, top {RESULTS_WANTED}, {rows[0].device}",
    )
    written(rows, args.keep)


def measure(work: Path, items: int, dimension: int, queries: int, progress: Progress) -> list[Row]:
    """A row for each kind of query and pass rate."""
    vectors = torch.from_numpy(np.concatenate(list(item_vectors(items, dimension))))
    buckets = np.random.default_rng(0).integers(0, BUCKETS, items)
    schema = Schema("generated", (Field("bucket", FieldKind.INTEGER),), ("watch",), generated=True)
    column = Column(FieldKind.INTEGER, np.arange(items + 1), buckets)
    catalog = Catalog(
        schema, np.arange(items), {"bucket": column}, lambda: iter([vectors.numpy()]), dimension
    )
    start_s = time.perf_counter()
    runner = Runner.open(publish(catalog, Store(work), IndexConfig(), progress), "generated")
    build_s = time.perf_counter() - start_s
    config = {"items": items, "dimension": dimension, "queries": queries, "k": RESULTS_WANTED}
    rows = []
    for kind, drawn in (
        ("drawn like items", item_like_queries(queries, dimension, items=items)),
        ("drawn like users", user_vectors(queries, dimension, items=items)),
    ):
        for name, below in PASS_RATES.items():
            figures = _compare(runner, vectors, buckets, drawn, below, f"{kind}, {name}", progress)
            rows.append(Row("index", f"{kind}, {name}", config, figures | {"build_s": round(build_s, 1)}))
    return rows


def _compare(
    runner: Runner,
    vectors: torch.Tensor,
    buckets: np.ndarray,
    queries: np.ndarray,
    below: int,
    stage: str,
    progress: Progress,
) -> dict[str, float]:
    expression = None if below == BUCKETS else parse_filter(f"bucket < {below}")
    eligible = torch.from_numpy(buckets < below)
    k = min(RESULTS_WANTED, int(eligible.sum()))
    found = scored = 0.0
    forward_s, exact_s = [], []
    for done, vector in enumerate(queries):
        progress(stage, done, len(queries))
        query = Query(
            "generated",
            RESULTS_WANTED,
            features={QUERY_VECTOR: vector},
            filter=expression,
            explain=True,
        )
        start_s = time.perf_counter()
        answer = runner.run([runner.prepare(query)])[0]
        forward_s.append(time.perf_counter() - start_s)
        start_s = time.perf_counter()
        wanted = _exact(vectors, eligible, torch.from_numpy(vector), k)
        exact_s.append(time.perf_counter() - start_s)
        own = vectors[torch.from_numpy(answer.item_ids)] @ torch.from_numpy(vector)
        # By score, so that ties are no misses; 1e-5 is what float32 sums in another order may differ by.
        found += min(int((own >= wanted[-1] - 1e-5).sum()), k)
        scored += int(answer.explain["watch.items_scored"])
    progress(stage, len(queries), len(queries))
    return {
        "recall": found / (k * len(queries)),
        "scored_share": scored / (len(queries) * len(vectors)),
        "forward_p50_ms": float(np.quantile(forward_s, 0.5)) * 1e3,
        "forward_p95_ms": float(np.quantile(forward_s, 0.95)) * 1e3,
        "exact_p50_ms": float(np.quantile(exact_s, 0.5)) * 1e3,
    }


def _exact(vectors: torch.Tensor, eligible: torch.Tensor, query: torch.Tensor, k: int) -> torch.Tensor:
    """The k best scores of eligible items, best first."""
    scores = (vectors @ query).masked_fill_(~eligible, -torch.inf)
    return torch.topk(scores, k).values


if __name__ == "__main__":
    main()
