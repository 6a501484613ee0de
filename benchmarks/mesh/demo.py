"""A mesh and the model on the same data, and the traffic moved from the one to the other, mode by mode.

Trains and publishes, starts the mesh's four services and `meshfold serve --mesh` in front of them, switches through the
modes while requests come, and shows who answered, how fast, and whether the answers were the mesh's.

    python -m benchmarks.mesh.demo --data ml-latest-small
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.arguments import arguments
from benchmarks.mesh.traffic import traffic
from benchmarks.processes import command, mesh_up, serving
from benchmarks.report import bench
from meshfold.commands import console
from meshfold.model.config import IndexConfig
from meshfold.model.data.source import open_source
from meshfold.model.publishing import ModelParts, publish_data
from meshfold.model.train.kept_model import trained_model
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.tools.bench_calls import RETRIEVE

MODES = (("mesh",), ("mirror",), ("canary", "50"), ("serve",), ("only",))
# Mesh and model sum floats in different orders: values this close, of 0 to 1, are one.
TIE = 1e-5
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Answered:
    """The result of one request. seconds: until the answer. failure: "" for an answer."""

    seconds: float
    by: str = ""
    failure: str = ""
    item_ids: tuple[int | str, ...] = ()
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Measured:
    """A row of the table. by: answers of each side. same_ids: the share of answers that list the mesh's items."""

    mode: str
    requests: int
    failed: int
    by: Mapping[str, int]
    p50_ms: float
    p99_ms: float
    same_ids: float


def main() -> None:
    parser = arguments(__doc__, work="build/demo")
    parser.add_argument("--data", type=Path, required=True, help="such as a MovieLens folder")
    parser.add_argument("--requests", type=int, default=1000, help="in each mode")
    parser.add_argument("--results", type=int, default=100, help="results that a request asks for")
    parser.add_argument("--callers", type=int, default=2, help="that ask at once")
    args = parser.parse_args()
    surface, store = published(args.data, args.work)
    requests = [r.SerializeToString() for r in traffic(args.data, args.requests, args.results)]
    state = args.work / "modes.json"
    state.unlink(missing_ok=True)
    logs = store.parent
    with mesh_up(store, logs / "mesh.log", "--surface", surface, "--exact") as services:
        for name, service in services.items():
            print(f"{name} of the mesh on {service['address']}")
        mesh = services["orchestrator"]["address"]
        flags: list[str | Path] = ["--store", store, "--mesh", mesh, "--migration-state", state]
        with serving(flags, logs / "serve.log") as (address, operators):
            rows = moved(surface, mesh, address, operators, requests, args.callers)
    console.table(
        ["mode", "requests", "failed", "answered by", "p50 ms", "p99 ms", "same ids"],
        [
            [
                row.mode,
                row.requests,
                row.failed,
                ", ".join(f"{side} {number}" for side, number in sorted(row.by.items())),
                f"{row.p50_ms:.1f}",
                f"{row.p99_ms:.1f}",
                f"{row.same_ids:.1%}",
            ]
            for row in rows
        ],
    )
    told = {
        "name": "demo_mesh",
        "requests": sum(row.requests for row in rows[1:]),
        "failed": sum(row.failed for row in rows),
        "same_ids": min(row.same_ids for row in rows[1:]),
    }
    bench(told)
    sys.exit(0 if told["failed"] == 0 else 1)


def moved(
    surface: str, mesh: str, address: str, operators: str, requests: Sequence[bytes], callers: int
) -> list[Measured]:
    """The mesh asked directly, then the server in each mode. address, operators: of the server."""
    expected = ask_all(mesh, requests, callers)
    rows = [measured("the mesh itself", expected, expected)]
    for mode in MODES:
        command("mode", surface, *mode, "--address", operators, "--why", "demonstration")
        rows.append(measured(" ".join(mode), ask_all(address, requests, callers), expected))
    return rows


def published(data: Path, work: Path) -> tuple[str, Path]:
    """The surface and the store of a trained model; trained anew only where data, settings or code are others."""
    source = open_source(data)
    home = work / source.schema.surface
    store = home / "store"
    with console.progress() as progress:
        parts = ModelParts()
        if not source.has_vectors:
            parts = ModelParts(model=trained_model(data, source, home, progress).folder)
        publish_data(data, parts, store, IndexConfig(), progress)
    return source.schema.surface, store


def ask_all(address: str, requests: Sequence[bytes], callers: int) -> list[Answered]:
    """Every request once, in order, by a few callers at a time."""
    with (
        grpc.insecure_channel(address, [("grpc.max_receive_message_length", 64 << 20)]) as channel,
        ThreadPoolExecutor(callers) as pool,
        console.progress() as progress,
    ):
        call = channel.unary_unary(RETRIEVE, response_deserializer=pb.RetrieveResponse.FromString)
        answers = []
        for answer in pool.map(lambda request: ask(call, request), requests):
            answers.append(answer)
            progress(f"asking {address}", len(answers), len(requests))
    return answers


def ask(call: Any, request: bytes) -> Answered:
    start_s = time.perf_counter()
    try:
        response, state = call.with_call(request, timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        return Answered(time.perf_counter() - start_s, failure=f"{error.code().name}: {error.details()}")
    seconds = time.perf_counter() - start_s
    told = {key: value for key, value in (*state.initial_metadata(), *state.trailing_metadata())}
    return Answered(
        seconds,
        str(told.get("meshfold-answered-by", "mesh")),
        item_ids=tuple(c.item_key or c.item_id for c in response.candidates),
        values=tuple(c.value for c in response.candidates),
    )


def measured(mode: str, answers: Sequence[Answered], expected: Sequence[Answered]) -> Measured:
    """A row of the table."""
    times_ms = sorted(1000 * answer.seconds for answer in answers)
    by = Counter(answer.by for answer in answers if not answer.failure)
    for failure, number in Counter(a.failure for a in answers if a.failure).items():
        print(f"{mode}: {number} x {failure}", file=sys.stderr)
    return Measured(
        mode,
        requests=len(answers),
        failed=sum(bool(answer.failure) for answer in answers),
        by=by,
        p50_ms=statistics.median(times_ms),
        p99_ms=float(np.quantile(times_ms, 0.99)),
        same_ids=statistics.fmean(same_ids(a, b) for a, b in zip(answers, expected, strict=True)),
    )


def same_ids(one: Answered, other: Answered) -> bool:
    """Whether two answers list the same items but for ties: where they differ, values are as good as equal."""
    if one.failure or other.failure or len(one.item_ids) != len(other.item_ids):
        return False
    return all(
        a == b or abs(x - y) <= TIE * max(1.0, abs(x))
        for a, b, x, y in zip(one.item_ids, other.item_ids, one.values, other.values, strict=True)
    )


if __name__ == "__main__":
    main()
