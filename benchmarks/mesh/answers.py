"""Equal weights, equal answers: the same requests to a mesh and to a model, over one snapshot.

    python -m benchmarks.mesh.answers --data ml-latest-small --requests 2000 --keep

Trains and builds once below --work, with every item a candidate on both sides, so that both search exactly. Then both
answer each request. Its last line is a JSON object after BENCH.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.arguments import arguments
from benchmarks.mesh.caller import Retrieve, caller
from benchmarks.mesh.traffic import traffic
from benchmarks.processes import mesh_up, serving
from benchmarks.report import bench, written
from benchmarks.rows import Row
from meshfold.commands import console
from meshfold.model.config import IndexConfig
from meshfold.model.data.source import open_source
from meshfold.model.publishing import ModelParts, publish_data
from meshfold.model.train.config import TrainConfig
from meshfold.model.train.training import train
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb

# Values and similarities that are closer are a tie: one side sums float32, the other 16-bit integers.
CLOSE = 1e-3
# Results of requests, in turn.
RESULTS = (10, 100, 1000)


@dataclass(frozen=True)
class Compared:
    """One request. equal: the same ids but for ties. share: of the model's ids in the mesh's answer."""

    equal: bool
    same_order: bool
    share: float
    value: float
    similarity: float


def main() -> None:
    parser = arguments(__doc__, work="build/mesh", keep=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    store = prepared(args.data, args.work)
    rows = []
    for case, flags in (("exact", ["--exact"]), ("IVF,SQ8", [])):
        rows.append(measured(case, flags, args, store))
    console.table(
        ["search", *rows[0].figures], [[row.case, *row.figures.values()] for row in rows], "mesh beside model"
    )
    written(rows, args.keep)
    exact = rows[0].figures
    bench({"name": "mesh_answers", "requests": args.requests, **exact})


def prepared(data: Path, work: Path) -> Path:
    """The store of a trained snapshot with every item a candidate; made once."""
    store = work / "store"
    if not store.exists():
        work.mkdir(parents=True, exist_ok=True)
        with console.progress() as progress:
            if not (work / "model").exists():
                train(open_source(data), work / "model", TrainConfig(), progress)
            config = IndexConfig(candidates=len(open_source(data).catalog()))
            publish_data(data, ModelParts(model=work / "model"), store, config, progress)
    return store


def measured(case: str, flags: list[str], args: argparse.Namespace, store: Path) -> Row:
    flags = [*flags, f"--indices={args.work / 'indices'}"]
    with (
        mesh_up(store, args.work / "mesh.log", *flags) as told,
        serving(["--store", store], args.work / "serve.log") as (address, _),
        caller(told["orchestrator"]["address"]) as mesh,
        caller(address) as model,
        console.progress() as progress,
    ):
        compared = []
        for done, request in enumerate(requests(args)):
            progress(case, done, args.requests)
            compared.append(compare(request, mesh, model))
        progress(case, args.requests, args.requests)
    figures = {
        "equal_but_ties": float(np.mean([c.equal for c in compared])),
        "same_order": float(np.mean([c.same_order for c in compared])),
        "same_ids": float(np.mean([c.share for c in compared])),
        "worst_value": max(c.value for c in compared),
        "worst_similarity": max(c.similarity for c in compared),
    }
    config = {"data": args.data.name, "requests": args.requests, "seed": args.seed, "close": CLOSE}
    return Row("mesh_answers", case, config, figures)


def requests(args: argparse.Namespace) -> Iterator[pb.RetrieveRequest]:
    for number, request in enumerate(traffic(args.data, args.requests, 0, args.seed)):
        request.max_results = RESULTS[number % len(RESULTS)]
        # Every fiftieth user is unknown.
        if number % 50 == 0:
            request.user.ClearField("history")
            request.user.ClearField("history_keys")
        yield request


def compare(request: pb.RetrieveRequest, mesh: Retrieve, model: Retrieve) -> Compared:
    ours, theirs = mesh(request).candidates, model(request).candidates
    values = {_id(c): c.value for c in ours}
    similarities = {_id(c): c.similarity for c in ours}
    both = [c for c in theirs if _id(c) in values]
    last = theirs[-1].value if theirs else 0.0
    return Compared(
        # In every place a value that is as good, and what only one side has is a tie with the last.
        equal=len(ours) == len(theirs)
        and all(abs(a.value - b.value) < CLOSE for a, b in zip(ours, theirs, strict=True))
        and all(abs(c.value - last) < CLOSE for c in theirs if _id(c) not in values),
        same_order=[_id(c) for c in ours] == [_id(c) for c in theirs],
        share=len(both) / len(theirs) if theirs else float(not ours),
        value=max((abs(c.value - values[_id(c)]) for c in both), default=0.0),
        similarity=max((abs(c.similarity - similarities[_id(c)]) for c in both), default=0.0),
    )


def _id(candidate: pb.Candidate) -> int | str:
    return candidate.item_key or candidate.item_id


if __name__ == "__main__":
    main()
