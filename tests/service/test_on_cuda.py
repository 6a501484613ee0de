"""The whole forward pass as CUDA would run it: the CPU's answer, and nothing for which the host waits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from meshfold.model.batch import QueryBatch, Results
from meshfold.model.filter.text import parse_filter
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.types import (
    QUERY_VECTOR,
    Embeddings,
    EmbedQuery,
    MaxPerValue,
    Neighbours,
    Query,
    ScoreQuery,
    Scores,
    SearchQuery,
    User,
)
from meshfold.service.runner import Runner
from tests.on_cuda import as_on_cuda, is_on_cuda

Build = Callable[..., Path]
# Numpy, in which the interpreter calculates, says so where float32 ends; torch says nothing.
silent = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered")
VECTOR = np.linspace(-1, 1, 16, dtype=np.float32)
QUERIES = (
    Query("shop", 50, history=np.array([5, 8, 26]), filter=parse_filter('year >= 1990 && !("t3" in tags)')),
    Query("shop", 9, features={QUERY_VECTOR: VECTOR}, max_per_value=MaxPerValue("language", 2)),
    Query("shop", 30, filter=parse_filter("price < 0.2"), explain=True),
    Query("shop", 20, features={"country": ("de",)}, value_formula="cheap", excluded_ids=np.array([5, 11])),
)


@pytest.fixture(scope="module")
def folder(build_shop: Build) -> Path:
    return build_shop(user_tower="User", over_arch="Rank")


@pytest.fixture
def runner(folder: Path) -> Runner:
    opened = Runner.open(folder, "shop")
    assert isinstance(opened.model, RetrievalModel)
    index = opened.model.index
    # They lie side by side where a CPU searches, apart on a device.
    index.codes, index.residuals = index.codes.contiguous(), index.residuals.contiguous()
    return opened


def batch_of(runner: Runner) -> QueryBatch:
    return runner.collate([runner.prepare(query) for query in QUERIES])


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the model computes it computes as on CUDA."""
    pytest.importorskip("triton")
    if torch.cuda.is_available():
        pytest.skip("the kernels are interpreted only where there is no GPU")
    for name in ("forward", "search", "score", "embed"):
        monkeypatch.setattr(RetrievalModel, name, _as_on_cuda(getattr(RetrievalModel, name)))


def _as_on_cuda(method: Callable[..., object]) -> Callable[..., object]:
    def run(*args: object) -> object:
        # embed is a part of the others.
        with nullcontext() if is_on_cuda() else as_on_cuda():
            return method(*args)

    return run


@silent
def test_it_answers_as_on_a_cpu_and_never_waits(runner: Runner, request: pytest.FixtureRequest) -> None:
    batch = batch_of(runner)
    with torch.inference_mode():
        wanted: Results = runner.model(batch)
        request.getfixturevalue("interpreted")
        got: Results = runner.model(batch)
    for name in ("positions", "known", "eligible", "opened", "scored", "sampled"):
        assert torch.equal(getattr(got, name), getattr(wanted, name)), name
    for name in ("values", "similarities", "task_scores"):
        real = wanted.positions >= 0
        assert_close(getattr(got, name)[real], getattr(wanted, name)[real])


@silent
def test_parts_of_it_do_so_too(runner: Runner, request: pytest.FixtureRequest) -> None:
    user = User(history=np.array([5, 8, 26]))
    search = SearchQuery("shop", 20, (VECTOR, -VECTOR), parse_filter("price < 0.2"))
    score = ScoreQuery("shop", user, np.array([5, 8, 11, 14]))

    def ask() -> tuple[Embeddings, Neighbours, Scores]:
        return (
            runner.embed([runner.prepare_embed(EmbedQuery("shop", (user, User())))])[0],
            runner.search([runner.prepare_search(search)])[0],
            runner.score([runner.prepare_score(score)])[0],
        )

    wanted = ask()
    request.getfixturevalue("interpreted")
    got = ask()
    assert_close(torch.from_numpy(got[0].vectors), torch.from_numpy(wanted[0].vectors))
    for mine, theirs in zip(got[1].item_ids, wanted[1].item_ids, strict=True):
        assert list(mine) == list(theirs)
    assert np.array_equal(got[1].similarities, wanted[1].similarities)
    assert_close(torch.from_numpy(got[2].values), torch.from_numpy(wanted[2].values))


def assert_close(got: Tensor, wanted: Tensor) -> None:
    """The CPU multiplies linear layers by a kernel of ours, which adds in another order than torch."""
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_every_tensor_is_where_the_model_is(runner: Runner) -> None:
    """Tensors without values, of which torch reads none, and which it does not mix with others."""
    batch = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), batch_of(runner))
    runner.model.to("meta")
    with torch.inference_mode():
        results: Results = runner.model(batch)
    assert all(getattr(results, f.name).is_meta for f in fields(Results))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_never_waits_either(folder: Path) -> None:
    runner = Runner.open(folder, "shop", "cuda")
    batch = tree_map_only(Tensor, lambda tensor: tensor.to("cuda"), batch_of(runner))
    with torch.inference_mode():
        runner.model(batch)
        torch.cuda.set_sync_debug_mode("error")
        try:
            runner.model(batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
