"""The same query gives the same bytes, whatever runs beside it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from meshfold.compat import meshfold_v1
from meshfold.compat.client import decode_response, encode_request
from meshfold.model.filter.expression import Expression, Match, Not, Range
from meshfold.model.limits import Limits
from meshfold.model.store import Store
from meshfold.model.types import QUERY_VECTOR, Candidates, FeatureList, MaxPerValue, Query
from meshfold.service.call import Call
from meshfold.service.event_loop import EventLoop
from meshfold.service.lane import LaneLimits
from meshfold.service.runner import Runner
from meshfold.service.scheduler import Scheduler
from meshfold.service.work import Work

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
    return tuple(np.asarray(array).tobytes() for array in held)


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


def from_32_threads(runner: Runner, ask: Callable[[Query], tuple[bytes, ...]]) -> None:
    """Each asks every query, in an order of its own, and gets the bytes that the query has alone."""
    queries = [random_query(seed) for seed in range(12)]
    alone = [bytes_of(answer(runner, q)) for q in queries]
    wrong: queue.Queue[object] = queue.Queue()
    start = threading.Barrier(32)

    def work(thread: int) -> None:
        try:
            start.wait(10)
            for i in np.random.default_rng(thread).permutation(12).tolist():
                if ask(queries[i]) != alone[i]:
                    wrong.put(i)
        except BaseException as error:
            wrong.put(error)
            raise

    threads = [threading.Thread(target=work, args=(i,)) for i in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong.empty(), wrong.get()


def test_one_answer_from_32_threads_that_run_passes_at_once(runner: Runner) -> None:
    from_32_threads(runner, lambda query: bytes_of(answer(runner, query)))


def test_one_answer_from_32_threads_whose_queries_share_batches(runner: Runner) -> None:
    """As a server answers them: by several threads, in batches of whoever waits."""
    loop = EventLoop("test-loop")
    scheduler = Scheduler(4, 16, LaneLimits(1000, 1 << 20, 60.0))
    work = Work(meshfold_v1, runner, Limits())

    async def asked(message: bytes) -> bytes:
        size = await scheduler.measure(meshfold_v1, message, work.limits)
        return await scheduler.run(work, size, Call(message, time.monotonic() + 60))

    def ask(query: Query) -> tuple[bytes, ...]:
        return bytes_of(decode_response(loop.run(asked(encode_request(query)))))

    try:
        from_32_threads(runner, ask)
    finally:
        scheduler.stop(5)
        loop.stop()
