"""The whole forward pass as CUDA would run it: the CPU's answer, and nothing for which the host waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from meshfold.model.batch import QueryBatch, Results
from meshfold.model.filter.text import parse_filter
from meshfold.model.types import QUERY_VECTOR, MaxPerValue, Query
from meshfold.service.runner import Runner
from tests.on_cuda import as_on_cuda

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


def batch_of(runner: Runner) -> QueryBatch:
    return runner.collate([runner.prepare(query) for query in QUERIES])


@silent
def test_it_answers_as_on_a_cpu_and_never_waits(folder: Path) -> None:
    pytest.importorskip("triton")
    if torch.cuda.is_available():
        pytest.skip("the kernels are interpreted only where there is no GPU")
    runner = Runner.open(folder, "shop")
    batch = batch_of(runner)
    with torch.inference_mode():
        wanted: Results = runner.model(batch)
        with as_on_cuda():
            got: Results = runner.model(batch)
    for name in ("positions", "known", "eligible", "opened", "scored", "sampled"):
        assert torch.equal(getattr(got, name), getattr(wanted, name)), name
    # The CPU multiplies linear layers by oneDNN, which adds in another order.
    for name in ("values", "similarities", "task_scores"):
        real = wanted.positions >= 0
        torch.testing.assert_close(
            getattr(got, name)[real], getattr(wanted, name)[real], rtol=1e-5, atol=1e-5
        )


def test_every_tensor_is_where_the_model_is(folder: Path) -> None:
    """Tensors without values, of which torch reads none, and which it does not mix with others."""
    runner = Runner.open(folder, "shop")
    batch = batch_of(runner)
    runner.model.to("meta")
    given = {f.name: getattr(batch, f.name) for f in fields(QueryBatch)}
    given = {name: value.to("meta") if isinstance(value, Tensor) else value for name, value in given.items()}
    given["inputs"] = {name: value.to("meta") for name, value in batch.inputs.items()}
    with torch.inference_mode():
        results: Results = runner.model(QueryBatch(**given))
    assert all(getattr(results, f.name).is_meta for f in fields(Results))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_never_waits_either(folder: Path) -> None:
    runner = Runner.open(folder, "shop", "cuda")
    batch = batch_of(runner)
    with torch.inference_mode():
        runner.model(batch)
        torch.cuda.set_sync_debug_mode("error")
        try:
            runner.model(batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
