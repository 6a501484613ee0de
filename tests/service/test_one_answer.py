"""The same query gives the same bytes, whatever runs beside it."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from meshfold.model.filter.expression import Expression, Match, Not, Range
from meshfold.model.store import Store
from meshfold.model.types import QUERY_VECTOR, Candidates, FeatureList, MaxPerValue, Query
from meshfold.service.batcher import Batcher
from meshfold.service.runner import Runner

IDS = np.arange(10, 410)
D = 8


@pytest.fixture(scope="module")
def runner(store: Path) -> Runner:
    (folder,) = Store(store).published("shop")
    return Runner.open(folder, "shop")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def bytes_of(candidates: Candidates) -> tuple[bytes, ...]:
    held = (candidates.item_ids, candidates.values, candidates.similarities, candidates.task_scores)
    return tuple(array.tobytes() for array in held)


def answer(runner: Runner, query: Query) -> Candidates:
    (candidates,) = runner.run([runner.prepare(query)])
    return candidates


def random_query(seed: int) -> Query:
    rng = np.random.default_rng(seed)
    filters: list[Expression | None] = [
        None,
        Range("year", 1910, 1911 + float(rng.integers(0, 400))),
        Match("year", ints=tuple(rng.integers(1900, 2400, 30).tolist())),
        Not(Match("language", ("de",))),
    ]
    vector = rng.standard_normal((seed % 3) * D).astype(np.float32)
    features: dict[str, FeatureList] = {QUERY_VECTOR: vector} if len(vector) else {}
    return Query(
        "shop",
        int(rng.integers(1, 300)),
        features=features,
        history=rng.choice(IDS, int(rng.integers(0, 50))),
        excluded_ids=rng.choice(IDS, int(rng.integers(0, 50))),
        filter=filters[seed % 4],
        task_weights={"like": 0.3, "watch": float(rng.standard_normal())} if seed % 5 == 0 else {},
        max_per_value=MaxPerValue("language", 20) if seed % 7 == 0 else None,
    )


def test_one_answer_alone_in_any_company_and_with_any_threads(runner: Runner) -> None:
    queries = [random_query(seed) for seed in range(40)]
    torch.set_num_threads(1)
    alone = [bytes_of(answer(runner, q)) for q in queries]
    rng = np.random.default_rng(0)
    for threads, size in ((1, 1), (1, 3), (1, 16), (1, 40), (2, 8)):
        torch.set_num_threads(threads)
        order = rng.permutation(40).tolist()
        for some in (order[i : i + size] for i in range(0, 40, size)):
            got = runner.run([runner.prepare(queries[i]) for i in some])
            assert [bytes_of(c) for c in got] == [alone[i] for i in some]


def test_one_answer_from_32_threads_at_once(runner: Runner) -> None:
    queries = [random_query(seed) for seed in range(12)]
    alone = [bytes_of(answer(runner, q)) for q in queries]
    batcher = Batcher(max_batch=16, queue_limit=1000)
    wrong: queue.Queue[object] = queue.Queue()
    start = threading.Barrier(32)

    def work(thread: int) -> None:
        try:
            start.wait(10)
            for i in np.random.default_rng(thread).permutation(12).tolist():
                got = batcher.submit(runner.run, runner.prepare(queries[i]), math.inf).result(60)
                if bytes_of(got) != alone[i]:
                    wrong.put(i)
        except BaseException as error:
            wrong.put(error)
            raise

    threads = [threading.Thread(target=work, args=(i,)) for i in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    batcher.stop(5)
    assert wrong.empty(), wrong.get()
