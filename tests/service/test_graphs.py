from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from meshfold.model.batch import QueryBatch, Results
from meshfold.model.filter.text import parse_filter
from meshfold.model.types import QUERY_VECTOR, Candidates, MaxPerValue, Query
from meshfold.service.graphs import (
    Graphs,
    Packed,
    depth_padded,
    key_of,
    length_padded,
    padded,
    queries_padded,
)
from meshfold.service.runner import Runner

Build = Callable[..., Path]
FILTERS = (None, 'year >= 1990 && !("t3" in tags)', "price < 0.2", 'language in ["de", "es"]', "year == 1")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def query(seed: int, cap: bool = False) -> Query:
    rng = np.random.default_rng(seed)
    text = FILTERS[seed % len(FILTERS)]
    features = {QUERY_VECTOR: rng.standard_normal(16).astype(np.float32)} if seed % 3 == 0 else {}
    return Query(
        "shop",
        (1, 30, 200)[seed % 3],
        history=rng.integers(0, 4500, seed * 7 % 40).astype(np.int64),
        features=features,
        filter=None if text is None else parse_filter(text),
        excluded_ids=np.arange(5, 5 + 3 * seed, 3),
        max_per_value=MaxPerValue("language", 3) if cap else None,
        explain=seed % 2 == 0,
    )


@pytest.fixture(scope="module")
def folder(build_shop: Build) -> Path:
    return build_shop(user_tower="User", over_arch="Rank")


@pytest.fixture(scope="module")
def runner(folder: Path) -> Runner:
    return Runner.open(folder, "shop")


def batch_of(runner: Runner, queries: Sequence[Query]) -> QueryBatch:
    return runner.collate([runner.prepare(q) for q in queries])


@pytest.mark.parametrize(("queries", "size"), [(1, 1), (2, 2), (3, 4), (8, 8), (9, 16), (17, 24), (32, 32)])
def test_few_sizes_of_batches(queries: int, size: int) -> None:
    assert queries_padded(queries) == size


def test_few_sizes_of_what_a_batch_holds() -> None:
    assert [depth_padded(k) for k in (1, 3, 1500, 2048, 2049, 10_000)] == [1, 4, 2048, 2048, 4096, 10_240]
    assert [length_padded(n, 16) for n in (0, 16, 17, 100)] == [16, 16, 32, 128]


@pytest.mark.parametrize("cap", [False, True])
@pytest.mark.parametrize("count", [1, 3, 9])
def test_padding_changes_no_byte(runner: Runner, count: int, cap: bool) -> None:
    batch = batch_of(runner, [query(seed, cap) for seed in range(count)])
    more = padded(batch)
    assert more.candidates.numel() == queries_padded(count)
    assert more.most_candidates == 2048
    with torch.inference_mode():
        wanted: Results = runner.model(batch)
        got: Results = runner.model(more)
    real = wanted.positions >= 0
    assert real.any(1).sum() >= count - 1
    for name in ("known", "eligible", "opened", "scored", "sampled"):
        assert torch.equal(getattr(got, name)[:count], getattr(wanted, name)), name
    k = wanted.positions.shape[1]
    assert torch.equal(got.positions[:count, :k], wanted.positions)
    for name in ("values", "similarities", "task_scores"):
        mine, theirs = getattr(got, name)[:count, :k][real], getattr(wanted, name)[real]
        assert mine.numpy().tobytes() == theirs.numpy().tobytes(), name


def test_queries_that_pad_find_nothing_and_score_nothing(runner: Runner) -> None:
    batch = padded(batch_of(runner, [query(seed) for seed in range(3)]))
    with torch.inference_mode():
        results: Results = runner.model(batch)
    assert (results.positions[3] == -1).all()
    assert results.scored[3].sum() == results.eligible[3] == 0
    assert (results.opened[3] <= 1).all()


def test_one_key_for_batches_that_one_graph_serves(runner: Runner) -> None:
    keys = {
        key_of(padded(batch_of(runner, [query(seed) for seed in seeds])))
        for seeds in ((0, 1, 2), (3, 4, 5, 7))
    }
    assert len(keys) == 1
    others = ([query(seed) for seed in range(5)], [query(seed, cap=True) for seed in range(3)])
    assert not keys & {key_of(padded(batch_of(runner, queries))) for queries in others}


def test_a_batch_is_packed_and_unpacked(runner: Runner) -> None:
    first, second = (padded(batch_of(runner, [query(s) for s in seeds])) for seeds in ((0, 1, 2), (3, 4, 5)))
    packed = Packed(first, torch.device("cpu"))
    for batch in (first, second):
        packed.fill(batch)
        for mine, theirs in zip(tree_leaves(packed.batch), tree_leaves(batch), strict=True):
            if isinstance(mine, Tensor):
                assert mine.dtype == theirs.dtype
                assert torch.equal(mine, theirs)
                assert mine.data_ptr() % 16 == 0
            else:
                assert mine == theirs


@needs_gpu
def test_a_replay_equals_what_runs_operation_by_operation(folder: Path) -> None:
    runner = Runner.open(folder, "shop", "cuda", cuda_graphs=0)
    graphs = Graphs(runner.model, torch.device("cuda"), 2)
    batches = [
        batch_of(runner, [query(s, cap) for s in range(n)]) for n, cap in ((3, False), (1, False), (4, True))
    ]
    eager = Graphs(runner.model, torch.device("cuda"), 0)
    with torch.inference_mode():
        wanted = [eager(batch) for batch in batches]
        # The first of its sizes runs, the second is captured; a third key drops one of two graphs.
        for i in (0, 0, 0, 1, 1, 0, 2, 2, 1, 0, 2, 0, 0):
            got = graphs(batches[i])
            for field in fields(Results):
                assert torch.equal(getattr(got, field.name), getattr(wanted[i], field.name)), field.name


@needs_gpu
@pytest.mark.parametrize("residuals", ["device", "host"])
def test_a_gpu_answers_as_a_cpu(folder: Path, runner: Runner, residuals: str) -> None:
    on_gpu = Runner.open(folder, "shop", "cuda", residuals)

    def ask(of: Runner, seeds: Sequence[int]) -> list[Candidates]:
        return of.run([of.prepare(query(seed)) for seed in seeds])

    wanted = ask(runner, range(6))
    for _ in range(3):
        for mine, theirs in zip(ask(on_gpu, range(6)), wanted, strict=True):
            assert list(mine.item_ids) == list(theirs.item_ids)
            np.testing.assert_allclose(mine.values, theirs.values, rtol=1e-5, atol=1e-5)
            assert mine.similarities.tobytes() == theirs.similarities.tobytes()
