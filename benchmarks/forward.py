"""Where the time of a forward pass goes: tower, filter, search, re-scoring, OverArch and value, stage by stage.

The whole model at batch 1: a user tower over a history, two tasks, an OverArch (an MLP of 256, 128 and 64), 1,000
results. Weights are those that training begins with: time does not depend on them. `search` filters, probes and scans.

    python -m benchmarks.forward --items 1000000
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.arguments import arguments
from benchmarks.forward_plot import draw
from benchmarks.headline.catalog import tags_of
from benchmarks.report import bench
from benchmarks.rows import Row, write_rows
from meshfold.commands import console
from meshfold.model import retrieval
from meshfold.model.build import publish
from meshfold.model.config import IndexConfig
from meshfold.model.data.catalog import Catalog, Column
from meshfold.model.data.generated import item_vectors
from meshfold.model.exports import export_over_arch, export_user_tower
from meshfold.model.filter.text import parse_filter
from meshfold.model.progress import Progress
from meshfold.model.schema import Field, FieldKind, Schema
from meshfold.model.snapshot import OVER_ARCH, USER_TOWER, Snapshot
from meshfold.model.store import Store
from meshfold.model.train.config import OverArchKind
from meshfold.model.train.over_arch import new_over_arch
from meshfold.model.train.towers import UserTower
from meshfold.model.types import Query
from meshfold.service.runner import Runner

RESULTS_WANTED = 1000
HISTORY_ITEMS = 30
HIDDEN = (256, 128, 64)
TASKS = ("watch", "like")
FILTERS = {
    "no filter": "",
    "three fields": 'language in ["l00", "l01", "l02"] && !("t0007" in tags) && year >= 1990',
}
# The search reaches 0.95 on queries that calibration has not seen.
TARGET_RECALL = 0.97


def main() -> None:
    parser = arguments(__doc__, work="build/forward", keep=True, items=1_000_000, dimension=128)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--candidates", type=int, nargs="+", default=[4096, 10_000])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with console.progress() as progress:
        snapshot = snapshot_of(args.work, args.items, args.dimension, progress)
        rows = [
            measure(snapshot, candidates, name, text, args.queries, progress)
            for candidates in args.candidates
            for name, text in FILTERS.items()
        ]
    stages = list(dict.fromkeys(stage for row in rows for stage in row.figures))
    console.table(
        ["figure", *(row.case for row in rows)],
        [[stage, *(round(row.figures.get(stage, 0.0), 4) for row in rows)] for stage in stages],
        f"{args.items:,} items x {args.dimension}, two tasks, medians in ms, {rows[0].device}",
    )
    if args.keep:
        console.print(f"rows written to {write_rows(rows)}, drawn to {draw(rows)}")
    told = {f"p50_ms_{row.config['candidates']}": round(row.figures["p50_ms"], 2) for row in rows[::-1]}
    bench({"name": "forward", "items": args.items, **told})


def snapshot_of(work: Path, items: int, dimension: int, progress: Progress) -> Snapshot:
    """A published catalog with every kind of field, tower and OverArch, built anew: what an older build wrote is not
    what is measured."""
    shutil.rmtree(work / "store", ignore_errors=True)
    store = Store(work / "store")
    schema = Schema(
        "forward",
        (
            Field("language", FieldKind.CATEGORY),
            Field("tags", FieldKind.CATEGORIES),
            Field("year", FieldKind.INTEGER),
        ),
        TASKS,
        generated=True,
    )
    random = np.random.default_rng(0)
    tags = tags_of(random, items)
    single = np.arange(items + 1)
    columns = {
        "language": Column(
            FieldKind.CATEGORY,
            single,
            random.integers(0, 20, items),
            tuple(f"l{i:02}" for i in range(20)),
        ),
        "tags": tags,
        "year": Column(FieldKind.INTEGER, single, random.integers(1950, 2026, items)),
    }
    catalog = Catalog(schema, np.arange(items), columns, lambda: item_vectors(items, dimension), dimension)
    tower = UserTower(len(TASKS), dimension, torch.Generator().manual_seed(0)).eval()
    over_arch = new_over_arch(OverArchKind.MLP, len(TASKS), dimension, HIDDEN, 0).eval()
    programs = {
        USER_TOWER: export_user_tower(tower, schema, dimension),
        OVER_ARCH: export_over_arch(over_arch, schema, dimension),
    }
    publish(catalog, store, IndexConfig(target_recall=TARGET_RECALL), progress, programs=programs)
    return Snapshot.open(store.published("forward")[0])


def measure(
    snapshot: Snapshot, candidates: int, name: str, text: str, queries: int, progress: Progress
) -> Row:
    """Medians over queries: the whole, with nothing measured inside, and the stages, in passes of their own between."""
    config = replace(snapshot.content.config, candidates=candidates)
    runner = Runner(replace(snapshot, content=replace(snapshot.content, config=config)), "cpu")
    model = model_of(runner)
    random = np.random.default_rng(1)
    expression = parse_filter(text) if text else None
    asked = [
        runner.prepare(
            Query(
                "forward",
                RESULTS_WANTED,
                history=random.integers(0, snapshot.content.items, HISTORY_ITEMS),
                task_weights={"watch": 1.0, "like": 0.5},
                filter=expression,
            )
        )
        for _ in range(queries)
    ]
    whole: list[float] = []
    by_stage: dict[str, list[float]] = defaultdict(list)
    with torch.inference_mode():
        batches = [runner.collate([prepared]) for prepared in asked]
        for done, batch in enumerate(batches):
            progress(f"{candidates:,} candidates, {name}", done, queries)
            start_s = time.perf_counter()
            model(batch)
            whole.append(time.perf_counter() - start_s)
            # In turn, so that what else the machine does slows both; of another query, whose items no cache holds.
            with timed(model, by_stage):
                model(batches[done - queries // 2])
    stages = {f"{stage}_ms": statistics.median(times) * 1e3 for stage, times in by_stage.items()}
    p50_ms, p95_ms = np.quantile(whole[queries // 10 :], [0.5, 0.95]) * 1e3
    recall = snapshot.built["recall"]
    figures = {"p50_ms": float(p50_ms), "p95_ms": float(p95_ms), **stages}
    figures["other_ms"] = max(0.0, float(p50_ms) - sum(stages.values()))
    figures |= {f"recall_{kind}": recall[f"{kind}_recall"] for kind in ("item_like", "user_like")}
    return Row(
        "forward",
        f"{candidates:,} candidates, {name}",
        {"items": snapshot.content.items, "candidates": candidates, "filter": text, "queries": queries},
        figures,
    )


def model_of(runner: Runner) -> retrieval.RetrievalModel:
    """The model of a runner on one device."""
    assert isinstance(runner.model, retrieval.RetrievalModel)
    return runner.model


@contextmanager
def timed(
    model: retrieval.RetrievalModel,
    times: dict[str, list[float]],
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[None]:
    """Notes how long each stage of a forward pass takes; what is in no stage is between them."""
    stages: Mapping[str, tuple[Any, str]] = {
        "user_tower": (model, "embed"),
        "quantise": (model.index, "quantize"),
        "search": (model.index, "search_parts"),
        "merge": (retrieval, "merge_tasks"),
        "rescore": (model.index, "similarities"),
        "candidates": (model, "_candidates"),
        "over_arch": (model.ranking, "forward"),
        "value": (model.value, "forward"),
    }
    before = {name: getattr(owner, part) for name, (owner, part) in stages.items()}

    def noting(name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            start_s = clock()
            result = inner(*args, **kwargs)
            times[name].append(clock() - start_s)
            return result

        return run

    for name, (owner, part) in stages.items():
        setattr(owner, part, noting(name, before[name]))
    try:
        yield
    finally:
        for name, (owner, part) in stages.items():
            setattr(owner, part, before[name])


if __name__ == "__main__":
    main()
