"""Latency of a served request beyond its forward pass: one caller of a server, and passes in a process, in turn.

    python -m benchmarks.headline.forward STORE MESSAGES

As a process it loads the snapshot, prints `ready`, and for each line with a number of seconds runs forward passes for
the messages for that time and prints their median in ms. It computes on two threads, as a server for a single request.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from statistics import mean, median

from benchmarks.headline.catalog import SURFACE
from benchmarks.headline.sides import model
from meshfold.tools.bench_calls import write_messages
from meshfold.tools.bench_generator import read_messages

ROUNDS = 4
_LIMIT_MS = 1000.0
_WARM_S = 1.0


def over_forward(store: Path, home: Path, messages: Path, seconds: float) -> dict[str, float]:
    """Medians in ms of served requests and of forward passes, requests without and with a filter apart, then averaged:
    between the two kinds lies no usual request."""
    served: list[float] = []
    passes: list[float] = []
    kinds = _kinds(messages)
    with model(store, home) as side:
        for kind in kinds:
            of_kind: tuple[list[float], list[float]] = ([], [])
            target = side.target(kind, _LIMIT_MS)
            with _passes(store, kind) as run:
                target.loop(1, _WARM_S)
                run(_WARM_S)
                for _ in range(ROUNDS):
                    of_kind[0].append(target.loop(1, seconds).p50_ms)
                    of_kind[1].append(run(seconds))
            served.append(median(of_kind[0]))
            passes.append(median(of_kind[1]))
    return {
        "served_p50_ms": mean(served),
        "forward_p50_ms": mean(passes),
        "p50_over_forward_ms": mean(served) - mean(passes),
    }


def _kinds(messages: Path) -> list[Path]:
    """Files of the messages without a filter and with one."""
    held = read_messages(messages)
    return [
        write_messages(messages.with_suffix(suffix), held[place::2])
        for place, suffix in enumerate((".unfiltered", ".filtered"))
    ]


@contextmanager
def _passes(store: Path, messages: Path) -> Iterator[Callable[[float], float]]:
    """A process of forward passes: seconds -> their median in ms."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.headline.forward", store, messages],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # The value that `meshfold` sets.
        env={**os.environ, "GOMP_SPINCOUNT": "2000"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def run(seconds: float) -> float:
        stdin.write(f"{seconds}\n")
        stdin.flush()
        return float(stdout.readline())

    try:
        if stdout.readline() != "ready\n":
            raise SystemExit("the process of forward passes did not start; it said why above")
        yield run
    finally:
        stdin.close()
        process.wait()
        stdout.close()


def main() -> None:
    import torch

    from meshfold.compat.mesh_v1 import retrieve
    from meshfold.model.store import Store
    from meshfold.service.runner import Runner

    store, messages = Path(sys.argv[1]), Path(sys.argv[2])
    runner = Runner.open(Store(store).published(SURFACE)[0], SURFACE)
    batches = cycle(
        [runner.collate([runner.prepare(retrieve.decode(message))]) for message in read_messages(messages)]
    )
    torch.set_num_threads(min(2, torch.get_num_threads()))
    print("ready", flush=True)
    with torch.inference_mode():
        for line in sys.stdin:
            taken, end_s = [], time.perf_counter() + float(line)
            while (start_s := time.perf_counter()) < end_s:
                runner.model(next(batches))
                taken.append(time.perf_counter() - start_s)
            print(1000 * median(taken), flush=True)


if __name__ == "__main__":
    main()
