"""What a call or a snapshot made goes with it, by reference counts alone: full collections are rare while serving."""

from __future__ import annotations

import gc
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from meshfold.kernels.native import library
from meshfold.model.filter.expression import AtLeast, Match, Range
from meshfold.model.types import EmbedQuery, MaxPerValue, Query, ScoreQuery, SearchQuery, User
from meshfold.service.runner import Runner
from tests.service.conftest import DIMENSION

Publish = Callable[..., Path]
Call = Callable[[Runner, int], object]
PASSES = 12
HISTORY = np.array([10, 11, 12])
VECTOR = np.ones(DIMENSION, np.float32)
LARGE = AtLeast(2, tuple(Match("year", ints=tuple(range(1900 + i, 1920 + i))) for i in range(30)))


def retrieve(runner: Runner, **asked: object) -> object:
    return runner.run([runner.prepare(Query("shop", **{"max_results": 10, "history": HISTORY, **asked}))])  # type: ignore[arg-type]


CALLS: dict[str, Call] = {
    "retrieve": lambda runner, i: retrieve(runner),
    "retrieve for nobody": lambda runner, i: retrieve(runner, history=np.empty(0, np.int64)),
    "explain": lambda runner, i: retrieve(runner, explain=True, filter=Range("year", 1950, 2000)),
    "capped": lambda runner, i: retrieve(runner, max_per_value=MaxPerValue("language", 2)),
    "fields": lambda runner, i: retrieve(runner, fields=("title", "language", "year")),
    "a large filter": lambda runner, i: retrieve(runner, filter=LARGE),
    "excluded": lambda runner, i: retrieve(runner, excluded_ids=np.arange(10, 300)),
    "batches of many sizes": lambda runner, i: runner.run(
        [runner.prepare(Query("shop", 300 + i, history=HISTORY))] * (1 + i % 8)
    ),
    "embed": lambda runner, i: runner.embed(
        [runner.prepare_embed(EmbedQuery("shop", (User(history=HISTORY),)))]
    ),
    "search": lambda runner, i: runner.search(
        [runner.prepare_search(SearchQuery("shop", 10, (VECTOR,) * (1 + i % 8)))]
    ),
    "score": lambda runner, i: runner.score(
        [runner.prepare_score(ScoreQuery("shop", User(history=HISTORY), np.arange(10, 60)))]
    ),
}


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Nothing is freed but by reference counts."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(params=["native", "reference"])
def kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "native" and not library.is_available():
        pytest.skip("the native kernels are not built")
    with library.forced(library.levels()[-1] if request.param == "native" else "reference"):
        yield


@pytest.fixture(scope="module")
def runner(store: Path) -> Runner:
    (folder,) = (store / "shop").iterdir()
    return Runner.open(folder, "shop")


@pytest.mark.usefixtures("kernels", "uncollected")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_leaves_nothing_behind(runner: Runner, call: Call) -> None:
    def grown() -> Counter[str]:
        before = Counter(map(type, gc.get_objects()))
        for i in range(PASSES):
            call(runner, i)
        after = Counter(map(type, gc.get_objects()))
        return Counter({kind.__name__: n for kind, n in (after - before).items() if n >= PASSES // 2})

    # In the first passes caches fill.
    assert grown() & grown() == {}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.usefixtures("kernels", "uncollected")
def test_of_a_dropped_runner_no_file_stays_mapped_or_open(tmp_path: Path, publish_items: Publish) -> None:
    def mapped() -> bool:
        return str(tmp_path) in Path("/proc/self/maps").read_text()

    folders = [publish_items(tmp_path, seed=seed) for seed in range(3)]
    open_files = len(os.listdir("/proc/self/fd"))
    for folder in folders:
        runner = Runner.open(folder, "shop")
        for call in CALLS.values():
            call(runner, 1)
        assert mapped()
        del runner
        assert not mapped()
    assert len(os.listdir("/proc/self/fd")) == open_files
