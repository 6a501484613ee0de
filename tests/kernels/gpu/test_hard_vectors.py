"""The corpus of tests/kernels/hard_vectors.py, on a GPU or under Triton's interpreter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

from meshfold.kernels.vectors.quantize import Quantized
from tests.kernels.hard_vectors import CASES, tensors

# Where an operation's file has another name.
FILES = {"item_vectors": "items"}
# What takes the interpreter over a second, and has a smaller case with the same tiles and masks.
SLOW = (
    "rescore: largest totals, D = 140000",
    "rescore: D = 1024",
    "rescore: past 2 GiB",
    "assign: D = 65536",
    "assign: 4097 items",
    "cluster_sums: D = 1024",
    "cluster_sums: D = 768",
    "cluster_sums: more clusters",
    "cluster_sums: D = 65536",
    *(f"{name}: D = {d}, ends" for name in ("rescore", "cluster_sums") for d in (1025, 65_536, 65_537)),
    *(f"{name}: D = 65537, ends" for name in ("quantize", "item_vectors")),
    *(f"{name}: D = 65536" for name in ("rescore", "quantize", "item_vectors")),
)
# Numpy, in which the interpreter calculates, says so where float32 ends; torch says nothing.
silent = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered")


def launcher(name: str) -> Callable[..., Any]:
    operation = name.partition(":")[0]
    file = import_module(f"meshfold.kernels.gpu.{FILES.get(operation, operation)}")
    made: Callable[..., Any] = getattr(file, f"{operation}_gpu")
    return lambda *flat: made(*packed(operation, flat))


def packed(operation: str, flat: Sequence[Any]) -> list[Any]:
    """The arguments of an operation, from those of case()."""
    count = {"rescore": 2, "item_vectors": 1}.get(operation, 0)
    return [*(Quantized(*flat[3 * i : 3 * i + 3]) for i in range(count)), *flat[3 * count :]]


@cache
def case(name: str) -> list[Any]:
    """The arguments, a quantized one as its three tensors."""
    _, arguments = CASES[name]()
    return [x for a in arguments for x in (vars(a).values() if isinstance(a, Quantized) else [a])]


@cache
def expected(name: str) -> list[Tensor]:
    operation = name.partition(":")[0]
    folder = "search" if operation == "rescore" else "vectors"
    file = import_module(f"meshfold.kernels.{folder}.{FILES.get(operation, operation)}")
    return tensors(getattr(file, f"{operation}_reference")(*packed(operation, case(name))))


def on(device: torch.device, arguments: list[Any]) -> list[Any]:
    return [a.to(device) if isinstance(a, Tensor) else a for a in arguments]


def assert_equal(got: list[Tensor], wanted: list[Tensor]) -> None:
    """As bits, of which 0.0 and -0.0 have their own; a NaN has another sign on another device."""
    assert len(got) == len(wanted)
    for left, right in zip(got, wanted, strict=True):
        here = left.cpu()
        assert (here.dtype, here.shape) == (right.dtype, right.shape)
        if here.is_floating_point():
            assert torch.equal(here.isnan(), right.isnan())
            here, right = (x.nan_to_num(7.0).view(torch.int32) for x in (here, right))
        assert torch.equal(here, right)


@silent
@pytest.mark.parametrize("name", CASES)
def test_a_gpu_answers_as_the_reference(name: str, device: torch.device) -> None:
    if device.type == "cpu" and name.startswith(SLOW):
        pytest.skip("over a second under the interpreter")
    assert_equal(tensors(launcher(name)(*on(device, case(name)))), expected(name))


@silent
@pytest.mark.parametrize(
    "name",
    [
        "rescore: a batch of 33",
        "quantize: D = 63",
        "assign: copies of centroids",
        "assign: 65 items",
        "assign: distances past float32",
    ],
)
def test_a_row_alone_is_answered_as_among_others(name: str, device: torch.device) -> None:
    whole = expected(name)
    operation = launcher(name)
    arguments = on(device, case(name))
    # Those of each row of the batch: the query's, or the item's.
    own = {"rescore": (0, 1, 2, 6), "quantize": (0,), "assign": (0, 1)}[name.partition(":")[0]]
    for row in range(0, arguments[0].shape[0], max(1, arguments[0].shape[0] // 3)):
        one = slice(row, row + 1)
        alone = [a[one] if i in own else a for i, a in enumerate(arguments)]
        assert_equal(tensors(operation(*alone)), [w[one] for w in whole])


@pytest.mark.parametrize("name", ["rescore: D = 63, any codes", "item_vectors: D = 63"])
def test_a_position_past_the_last_item_is_no_number(name: str, device: torch.device) -> None:
    arguments = on(device, case(name))
    n, positions = arguments[-2].shape[0], arguments[-1].clone()
    positions[:, 3], positions[:, 5] = n, 2**62
    got = launcher(name)(*arguments[:-1], positions).cpu()
    wanted = expected(name)[0].clone()
    # The axis of positions: behind that of tasks in one, before that of values in the other.
    axis = 2 if name.startswith("rescore") else 1
    wanted.index_fill_(axis, torch.tensor([3, 5]), torch.nan)
    assert_equal([got], [wanted])


@pytest.mark.parametrize("name", ["rescore: D = 63, any codes", "item_vectors: D = 63"])
def test_without_items_there_is_nothing_to_read(name: str, device: torch.device) -> None:
    arguments = on(device, case(name))
    items = slice(3, 6) if name.startswith("rescore") else slice(0, 3)
    arguments[items] = [a[:0] for a in arguments[items]]
    arguments[-1] = torch.full_like(arguments[-1], -1)
    got = launcher(name)(*arguments)
    # Where nothing is asked for a similarity is 0; item 0, which is not there, has no vector.
    assert got.eq(0).all() if name.startswith("rescore") else got.isnan().all()


@pytest.mark.parametrize("name", ["rescore: D = 63, any codes", "item_vectors: D = 63"])
def test_residuals_in_pinned_memory_are_read_where_they_are(name: str, device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("needs a GPU")
    arguments = on(device, case(name))
    residuals = -3
    arguments[residuals] = arguments[residuals].cpu().pin_memory()
    assert_equal(tensors(launcher(name)(*arguments)), expected(name))
    arguments[residuals] = arguments[residuals].clone()
    with pytest.raises(ValueError, match="residuals must be on cuda.* or in pinned host memory"):
        launcher(name)(*arguments)


@pytest.mark.parametrize("name", ["rescore: D = 64, any codes", "item_vectors: D = 64"])
def test_a_table_that_is_not_contiguous_is_never_copied(name: str, device: torch.device) -> None:
    arguments = on(device, case(name))
    codes = -4
    arguments[codes] = arguments[codes].T.contiguous().T
    with pytest.raises(ValueError, match="codes must be contiguous"):
        launcher(name)(*arguments)


def test_sums_refuse_what_the_reference_refuses(device: torch.device) -> None:
    codes, factors, members, clusters = on(device, case("cluster_sums: one cluster"))
    sums = launcher("cluster_sums")
    for member in (-1, clusters):
        with pytest.raises(ValueError, match="members must lie in 0 to 0"):
            sums(codes, factors, members + member, clusters)
    for factor in (float("nan"), 2.0**23 + 1):
        with pytest.raises(ValueError, match=r"factors must lie in -2\^23 to 2\^23"):
            sums(codes, torch.full_like(factors, factor), members, clusters)


def test_the_operations_themselves_run_on_cuda_tensors(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("needs a GPU")
    for name in CASES:
        if "D = 65," in name or name.endswith("D = 65"):
            operation, arguments = CASES[name]()
            moved = [
                Quantized(*on(device, list(vars(a).values()))) if isinstance(a, Quantized) else a
                for a in on(device, list(arguments))
            ]
            assert_equal(tensors(operation(*moved)), expected(name))
