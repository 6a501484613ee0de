from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from meshfold.kernels.native import library
from meshfold.kernels.vectors.assign import assign
from meshfold.kernels.vectors.cluster_sums import cluster_sums
from meshfold.kernels.vectors.quantize import Quantized
from tests.kernels.backends import LEVELS, filled_memory, threads
from tests.kernels.far_cases import FAR_DIMENSION, FAR_ITEMS
from tests.kernels.hard_vectors import CASES, Case, tensors
from tests.kernels.search_cases import int8, sparse


@cache
def case(name: str) -> Case:
    return CASES[name]()


def run(name: str) -> list[Tensor]:
    operation, arguments = case(name)
    return tensors(operation(*arguments))


@cache
def expected(name: str) -> list[Tensor]:
    with library.forced("reference"):
        return run(name)


def assert_equal(got: list[Tensor], wanted: list[Tensor]) -> None:
    for left, right in zip(got, wanted, strict=True):
        assert left.dtype == right.dtype
        # As bits, of which 0.0 and -0.0 have their own, and NaN equals itself.
        bits = torch.int32 if left.is_floating_point() else left.dtype
        assert torch.equal(left.view(bits), right.view(bits))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", CASES)
def test_every_level_answers_as_the_reference(name: str, level: str) -> None:
    with library.forced(level):
        for count in (1, 2, 5):
            with threads(count):
                assert_equal(run(name), expected(name))
                with filled_memory():
                    assert_equal(run(name), expected(name))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "name", [name for name in CASES if name.startswith(("rescore", "quantize", "assign"))]
)
def test_a_row_alone_is_answered_as_among_others(name: str, level: str) -> None:
    operation, arguments = case(name)
    first = arguments[0].codes if name.startswith("rescore") else arguments[0]
    for row in range(0, first.shape[0] if first.dim() > 1 else 0, max(1, first.shape[0] // 5)):
        one = slice(row, row + 1)
        with library.forced(level), threads(2):
            if name.startswith("rescore"):
                alone = operation(rows_of(arguments[0], one), arguments[1], arguments[2][one])
            elif name.startswith("quantize"):
                alone = operation(arguments[0][one])
            else:
                alone = operation(arguments[0][one], arguments[1][one], *arguments[2:])
        assert_equal(tensors(alone), [whole[one] for whole in expected(name)])


@pytest.mark.parametrize("level", LEVELS)
def test_items_past_two_gigabytes_are_assigned_and_summed(level: str) -> None:
    rng = np.random.default_rng(0)
    codes, n, last = sparse(FAR_ITEMS, FAR_DIMENSION), FAR_ITEMS, 300
    codes[-last:] = int8(rng, (last, FAR_DIMENSION), "any")
    centroids, ones = int8(rng, (2, FAR_DIMENSION), "any"), torch.ones(n)
    with library.forced(level), threads(2):
        members, closeness = assign(codes, ones, centroids, ones[:2])
        sums = cluster_sums(codes, torch.ones(n, dtype=torch.float64), members, 2)
    with library.forced("reference"):
        near = assign(codes[-last:], ones[-last:], centroids, ones[:2])
        of_zeros = assign(codes[:1], ones[:1], centroids, ones[:2])
        sums_of_last = cluster_sums(codes[-last:], ones[-last:].double(), near[0], 2)
    assert_equal([members[-last:], closeness[-last:]], list(near))
    assert (members[:-last] == of_zeros[0]).all()
    assert (closeness[:-last] == of_zeros[1]).all()
    assert torch.equal(sums, sums_of_last)


def rows_of(quantized: Quantized, rows: slice) -> Quantized:
    return Quantized(*(tensor[rows] for tensor in vars(quantized).values()))
