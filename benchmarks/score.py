"""Values of given items: with the item vectors inside the model, and with vectors fetched from Redis.

Both sides run the same programs for the same user and ids, from the ids of a request to its values: a user tower over
a history, two tasks, an OverArch (an MLP of 256, 128 and 64), a formula. Redis is started here, on this machine, and
asked through a unix socket by one MGET a request; it holds what the index holds, as float32 and as float16.

    python -m benchmarks.score --items 1000000
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.arguments import arguments
from benchmarks.forward import HISTORY_ITEMS, model_of, snapshot_of
from benchmarks.redis_process import redis_process
from benchmarks.report import bench, written
from benchmarks.rows import Row
from meshfold.commands import console
from meshfold.model.batch import QueryBatch
from meshfold.model.progress import Progress
from meshfold.model.ranking import TILE
from meshfold.model.snapshot import Snapshot
from meshfold.model.types import Float32s, Int64s, Query, ScoreQuery, User
from meshfold.service.runner import Runner

COUNTS = (100, 1000, 10_000)
FORMATS = {"float32": np.float32, "float16": np.float16}
WEIGHTS = {"watch": 1.0, "like": 0.5}
_ITEMS_AT_ONCE = 10_000


def main() -> None:
    parser = arguments(__doc__, work="build/forward", keep=True, items=1_000_000, dimension=128)
    parser.add_argument("--queries", type=int, default=100, help="of each number of ids")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with redis_process() as client, console.progress() as progress:
        snapshot = snapshot_of(args.work, args.items, args.dimension, progress)
        runner = Runner(snapshot, "cpu")
        fill(client, runner, snapshot, progress)
        rows = [
            measure(client, runner, snapshot, count, args.queries, progress)
            for count in COUNTS
            if count <= args.items
        ]
    figures = list(rows[0].figures)
    console.table(
        ["figure", *(row.case for row in rows)],
        [[name, *(round(row.figures[name], 3) for row in rows)] for name in figures],
        f"{args.items:,} items x {args.dimension}, two tasks, {rows[0].device}",
    )
    written(rows, args.keep)
    told = {f"ratio_{row.config['ids']}": round(row.figures["ratio"], 2) for row in rows}
    bench({"name": "score", "items": args.items, **told})


def fill(client: Any, runner: Runner, snapshot: Snapshot, progress: Progress) -> None:
    """Every item's vector as the index holds it, by format and id."""
    ids, positions = snapshot.items["item_ids"].tolist(), snapshot.items["positions"]
    index = model_of(runner).index
    for start in range(0, len(ids), _ITEMS_AT_ONCE):
        progress("filling Redis", start, len(ids))
        vectors = index.vectors(positions[start : start + _ITEMS_AT_ONCE]).numpy()
        some = ids[start : start + _ITEMS_AT_ONCE]
        for name, kind in FORMATS.items():
            held = vectors.astype(kind)
            client.mset({_key(name, i): vector.tobytes() for i, vector in zip(some, held, strict=True)})
    progress("filling Redis", len(ids), len(ids))


def _key(name: str, item_id: int) -> str:
    return f"{name}:{item_id}"


class Inside:
    """The model's own Score, from the request to its answer."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def score(self, user: User, ids: Int64s) -> tuple[Float32s, dict[str, float]]:
        """(values: [ids] float32, seconds by figure)."""
        query = ScoreQuery(self._runner.surface, user, ids, WEIGHTS)
        start_s = time.perf_counter()
        (scores,) = self._runner.score([self._runner.prepare_score(query)])
        return scores.values, {"model": time.perf_counter() - start_s}


class Outside:
    """The same modules with vectors from Redis. What prepares a request, its ids apart, is done before the clock."""

    def __init__(self, runner: Runner, client: Any, name: str) -> None:
        """name: of FORMATS."""
        self._runner = runner
        self._client = client
        self._name = name

    def score(self, user: User, ids: Int64s) -> tuple[Float32s, dict[str, float]]:
        """(values: [ids] float32, seconds by figure)."""
        query = Query(self._runner.surface, 1, history=user.history, task_weights=WEIGHTS)
        batch = self._runner.collate([self._runner.prepare(query)])
        start_s = time.perf_counter()
        vectors = self._fetched(ids)
        fetched_s = time.perf_counter()
        values = self._scored(batch, len(ids), torch.from_numpy(vectors))
        end_s = time.perf_counter()
        return values, {self._name: end_s - start_s, f"{self._name}_fetch": fetched_s - start_s}

    def _fetched(self, ids: Int64s) -> Float32s:
        """[whole tiles, D] float32, zeros after the last. Raises RuntimeError for an item that Redis has not."""
        values = self._client.mget([_key(self._name, i) for i in ids.tolist()])
        if None in values:
            raise RuntimeError(f"Redis has no item {ids[values.index(None)]}")
        held = np.frombuffer(b"".join(values), FORMATS[self._name]).reshape(len(ids), -1)
        padded = np.zeros((-(-len(ids) // TILE) * TILE, held.shape[1]), np.float32)
        padded[: len(ids)] = held
        return padded

    def _scored(self, batch: QueryBatch, count: int, vectors: Tensor) -> Float32s:
        def in_order(positions: Tensor) -> Tensor:
            return vectors[: positions.shape[1]].unsqueeze(0)

        model = model_of(self._runner)
        with torch.inference_mode():
            user, _ = model.embed(batch.users)
            similarities = user @ vectors[:count].T
            scores = model.ranking(user, torch.arange(count).unsqueeze(0), similarities, in_order)
            no_fields = torch.empty(1, 0, count, dtype=torch.float64)
            values = model.value(
                batch.value_steps,
                batch.value_constants,
                scores,
                similarities.amax(1),
                no_fields,
                no_fields.bool(),
            )
        out: Float32s = values[0].numpy()
        return out


def measure(
    client: Any, runner: Runner, snapshot: Snapshot, count: int, queries: int, progress: Progress
) -> Row:
    """Medians over requests of `count` ids; the sides take turns, each first equally often."""
    rng = np.random.default_rng(count)
    item_ids: Int64s = snapshot.items["item_ids"].numpy()
    sides: dict[str, Inside | Outside] = {"model": Inside(runner)}
    sides |= {name: Outside(runner, client, name) for name in FORMATS}
    times: dict[str, list[float]] = {}
    warm_up = max(3, queries // 10)
    for done in range(warm_up + queries):
        progress(f"scoring {count:,} ids", done, warm_up + queries)
        user = User(history=rng.choice(item_ids, HISTORY_ITEMS))
        ids = rng.choice(item_ids, count, replace=False)
        answers: dict[str, Float32s] = {}
        for name in np.roll(list(sides), done).tolist():
            answers[name], taken_s = sides[name].score(user, ids)
            for figure, took_s in taken_s.items():
                times.setdefault(figure, []).append(took_s * 1e3)
        _check_equal(answers)
    figures: dict[str, float] = {}
    for name, taken_ms in times.items():
        p50_ms, p95_ms = np.quantile(taken_ms[warm_up:], [0.5, 0.95]).tolist()
        figures |= {f"{name}_p50_ms": p50_ms, f"{name}_p95_ms": p95_ms}
    fastest = min(figures[f"{name}_p50_ms"] for name in FORMATS)
    figures["ratio"] = fastest / figures["model_p50_ms"]
    return Row(
        "score",
        f"{count:,} ids",
        {
            "items": len(item_ids),
            "dimension": snapshot.content.dimension,
            "ids": count,
            "queries": queries,
            "redis": client.info("server")["redis_version"],
        },
        figures,
    )


def _check_equal(answers: Mapping[str, Float32s]) -> None:
    """Raises RuntimeError where the sides did not compute the same."""
    ours = answers["model"]
    largest = float(np.abs(ours).max())
    for name in FORMATS:
        # Queries have 16 bits a value in the model; float16 has 11 of an item's.
        most = (1e-3 if name == "float32" else 1e-2) * largest
        apart = float(np.abs(answers[name] - ours).max())
        if apart > most:
            raise RuntimeError(f"values with {name} vectors of Redis are {apart:.3g} apart, of {largest:.3g}")


if __name__ == "__main__":
    main()
