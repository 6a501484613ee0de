"""Cost of string ids beside integer ids: build, request from bytes to bytes, memory.

The same items and vectors twice: once with integers as ids, once with random UUIDs in the same order, so that both
snapshots compute the same. Each is built and loaded in a process of its own; requests are answered in turn in one
process.

    python -m benchmarks.string_ids --items 1000000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.arguments import arguments
from benchmarks.process_tree import megabytes
from benchmarks.report import bench
from benchmarks.rows import Row, write_rows
from meshfold.commands import console
from meshfold.compat.mesh_v1 import retrieve
from meshfold.model.build import publish
from meshfold.model.data.generated import item_vectors
from meshfold.model.data.source import open_source
from meshfold.model.snapshot import Snapshot
from meshfold.model.store import Store
from meshfold.model.types import Float32s
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.service.runner import Runner

KINDS = ("integers", "strings")
HISTORY, EXCLUDED, RESULTS = 100, 100, 1000
SURFACE = "shop"


_SCHEMA = f"""
surface = "{SURFACE}"
[items]
source = "items.parquet"
id = "item_id"
vector = "vector"
[fields.year]
kind = "integer"
[tasks.watch]
"""


@dataclass(frozen=True)
class World:
    items: int
    dimension: int
    work: Path

    def data(self, kind: str) -> Path:
        return self.work / f"{kind}-data"

    def store(self, kind: str) -> Path:
        return self.work / kind

    def write(self, kind: str, vectors: Float32s) -> None:
        """A table of items and its schema. vectors: [N, D]."""
        folder = self.data(kind)
        folder.mkdir()
        ids = pa.array(self.names() if kind == "strings" else np.arange(self.items))
        lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), self.dimension)
        table = pa.table({"item_id": ids, "year": np.arange(self.items) % 100, "vector": lists})
        pq.write_table(table, folder / "items.parquet", compression="none", use_dictionary=False)
        (folder / "schema.toml").write_text(_SCHEMA)

    def names(self) -> list[str]:
        """Random UUIDs in the order of their bytes."""
        drawn = np.random.default_rng(0).integers(0, 256, (self.items, 16), np.uint8)
        return sorted(str(uuid.UUID(bytes=row.tobytes(), version=4)) for row in drawn)


def main() -> None:
    parser = arguments(__doc__, keep=True, items=1_000_000, dimension=64)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--part", choices=("build", "load"), help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        world = World(args.items, args.dimension, args.work)
        console.print(json.dumps(build(world, args.kind) if args.part == "build" else load(world, args.kind)))
        return
    with tempfile.TemporaryDirectory() as work, console.progress() as progress:
        world = World(args.items, args.dimension, Path(work))
        progress("vectors", 0, 1)
        vectors = np.concatenate(list(item_vectors(args.items, args.dimension)))
        for kind in KINDS:
            world.write(kind, vectors)
        del vectors
        figures = []
        for place, kind in enumerate(KINDS):
            progress("building and loading", place, len(KINDS))
            figures.append({**_child(world, "build", kind), **_child(world, "load", kind)})
        progress("building and loading", len(KINDS), len(KINDS))
        for of_kind, p50_ms in zip(figures, ask(world, args.queries), strict=True):
            of_kind["p50_ms"] = p50_ms
    config = {"items": args.items, "dimension": args.dimension}
    rows = [Row("string_ids", kind, config, of_kind) for kind, of_kind in zip(KINDS, figures, strict=True)]
    console.table(
        ["ids", *figures[0]], [[row.case, *(round(v, 3) for v in row.figures.values())] for row in rows]
    )
    where = str(write_rows(rows)) if args.keep else ""
    ratios = {
        f"{what}_ratio": round(figures[1][name] / figures[0][name], 3)
        for what, name in (("build", "build_s"), ("p50", "p50_ms"), ("memory", "memory_mb"))
    }
    line = {
        "name": "string_ids",
        **ratios,
        "dictionary_mb": round(figures[1]["dictionary_mb"], 1),
        "rows": where,
    }
    bench(line)


def build(world: World, kind: str) -> dict[str, float]:
    """Seconds from a table to a published snapshot."""
    start_s = time.monotonic()
    publish(open_source(world.data(kind)).catalog(), Store(world.store(kind)))
    return {"build_s": time.monotonic() - start_s}


def load(world: World, kind: str) -> dict[str, float]:
    """Peak memory of a process that loads the snapshot and answers, and the part that is the dictionary of ids."""
    runner, snapshot = _runner(world, kind)
    for message in _messages(snapshot, 20):
        _answer(runner, message)
    held = sum(t.numel() * t.element_size() for name, t in snapshot.items.items() if name.startswith("id."))
    # Unlike getrusage's, this peak begins with the program.
    return {"memory_mb": megabytes("self", "status", "VmHWM"), "dictionary_mb": held / 2**20}


def ask(world: World, queries: int) -> list[float]:
    """The median of a request from bytes to bytes, for each kind of id, in ms."""
    opened = [_runner(world, kind) for kind in KINDS]
    asked = [_messages(snapshot, queries) for _, snapshot in opened]
    taken_s = np.zeros((len(KINDS), queries))
    for place in range(queries):
        for side in np.roll(np.arange(len(KINDS)), place).tolist():
            start_s = time.perf_counter()
            _answer(opened[side][0], asked[side][place])
            taken_s[side, place] = time.perf_counter() - start_s
    medians: list[float] = (np.median(taken_s[:, 5:], axis=1) * 1e3).tolist()
    return medians


def _runner(world: World, kind: str) -> tuple[Runner, Snapshot]:
    (folder,) = (path for path in (world.store(kind) / SURFACE).iterdir() if path.is_dir())
    return Runner.open(folder, SURFACE), Snapshot.open(folder)


def _messages(snapshot: Snapshot, queries: int) -> list[bytes]:
    """The same requests in either kind of id."""
    random, ids = np.random.default_rng(5), snapshot.item_ids()
    messages = []
    for _ in range(queries):
        rows = random.integers(0, len(ids), HISTORY + EXCLUDED)
        history, excluded = ids.at(rows[:HISTORY]), ids.at(rows[HISTORY:])
        request = pb.RetrieveRequest(surface=SURFACE, max_results=RESULTS)
        if isinstance(history, tuple) and isinstance(excluded, tuple):
            request.user.history_keys.extend(history)
            request.excluded_item_keys.extend(excluded)
        else:
            request.user.history.extend(history)
            request.excluded_item_ids.extend(excluded)
        messages.append(request.SerializeToString())
    return messages


def _answer(runner: Runner, message: bytes) -> bytes:
    query = retrieve.decode(message)
    (answer,) = runner.run([runner.prepare(query)])
    return retrieve.encode(query, answer)


def _child(world: World, part: str, kind: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.string_ids", "--part", part, "--kind", kind]
    command += ["--work", str(world.work), "--items", str(world.items), "--dimension", str(world.dimension)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode:
        raise SystemExit(f"{part} of {kind} failed:\n{told.stderr}")
    figures: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
    return figures


if __name__ == "__main__":
    main()
