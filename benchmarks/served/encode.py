"""Bytes of answers from arrays beside the generated classes of protobuf, in turn, in processor time.

python -m benchmarks.served.encode
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.arguments import arguments
from benchmarks.report import bench
from meshfold.commands import console
from meshfold.compat import meshfold_v1
from meshfold.compat.mesh_v1 import retrieve
from meshfold.model.types import Candidates, Ids, Query
from tests.compat import generated_answers

TASKS = ("like", "watch")
SIZES = (10, 100, 1000, 10_000)
CALLS = {
    "mesh.v1": (retrieve.encode, generated_answers.retrieve_response),
    "meshfold.v1": (meshfold_v1.encode, generated_answers.native_response),
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--turns", type=int, default=30, help="how often each side is timed, in turn")
    args = parser.parse_args()
    rows, told, equal = [], {}, True
    for protocol, (ours, generated) in CALLS.items():
        for ids in ("integers", "strings"):
            for size in SIZES:
                query, answer = Query("bench", size, request_id="request"), candidates(size, ids)
                equal &= ours(query, answer) == generated(query, answer)
                ms, generated_ms = in_turn(
                    args.turns, partial(ours, query, answer), partial(generated, query, answer)
                )
                rows.append(
                    [protocol, ids, size, round(ms, 4), round(generated_ms, 4), f"{generated_ms / ms:.1f}"]
                )
                if size == 1000 and ids == "integers" and protocol == "mesh.v1":
                    told = {"ms_1000": round(ms, 4), "ms_1000_generated_classes": round(generated_ms, 4)}
    console.table(
        ["protocol", "ids", "candidates", "ms", "generated classes, ms", "times as fast"],
        rows,
        "medians of processor time",
    )
    bench({"name": "encode", **told, "bytes_equal": bool(equal)})


def candidates(size: int, ids: str) -> Candidates:
    random = np.random.default_rng(size)
    numbers = random.integers(0, 1_000_000, size)
    item_ids: Ids = numbers if ids == "integers" else tuple(f"item-{number:028}" for number in numbers)
    floats = [random.random(size, np.float32) for _ in range(4)]
    return Candidates(TASKS, "29bb6e4e8984" * 5, item_ids, floats[0], floats[1], np.stack(floats[2:], 1))


def in_turn(turns: int, *sides: Callable[[], object]) -> list[float]:
    """Medians of the milliseconds of processor time that a call of each side takes."""
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(turns):
        for side, taken in zip(sides, times, strict=True):
            calls = 0
            start_s = time.thread_time()
            while time.thread_time() - start_s < 0.005:
                side()
                calls += 1
            taken.append((time.thread_time() - start_s) / calls * 1e3)
    return [statistics.median(taken) for taken in times]


if __name__ == "__main__":
    main()
