"""Filters and tables that do not fit together: refused with what is wrong."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from meshfold.kernels.filter.eligible import eligible
from meshfold.kernels.filter.steps import FilterBatch, FilterTensors, Op
from meshfold.kernels.native import library
from tests.kernels.plain_filters import (
    BLOOM_ROWS,
    FIRST_BLOOM,
    INT64,
    TAGS,
    YEAR,
    Term,
    items_of,
    nested,
    programs_of,
)


def test_a_filter_that_needs_too_much_memory_is_refused() -> None:
    items = items_of(65)
    for level in library.levels()[1:]:
        with library.forced(level), pytest.raises(ValueError, match="sets at a time, at most 4096 will do"):
            eligible(items.tensors, programs_of([nested(5000)]), torch.tensor([True]), items.n)


def batch(steps: list[list[int]]) -> FilterBatch:
    """Two values, with rows."""
    rows = torch.tensor([[[FIRST_BLOOM, FIRST_BLOOM + 1], [FIRST_BLOOM, FIRST_BLOOM]]])
    return FilterBatch(
        torch.tensor(steps, dtype=torch.int64).view(1, -1, 4),
        torch.tensor([[1, 2]]),
        rows,
        torch.empty((1, 0), dtype=torch.int64),
    )


TRUE = [Op.CONSTANT, 1, 0, 0]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "must leave one set, not 0"),
        ([[Op.NOOP, 0, 0, 0]], "must leave one set, not 0"),
        ([TRUE, TRUE], "must leave one set, not 2"),
        ([[99, 0, 0, 0]], "opcode 99"),
        ([[-1, 0, 0, 0]], "opcode -1"),
        ([[Op.AND, 0, 0, 0]], "step 0 of a filter needs 2 sets, there are 0"),
        ([TRUE, [Op.OR, 0, 0, 0]], "step 1 of a filter needs 2 sets, there are 1"),
        ([[Op.NOT, 0, 0, 0]], "needs 1 sets, there are 0"),
        ([TRUE, [Op.AT_LEAST, 2, 1, 0]], "needs 2 sets, there are 1"),
        ([TRUE, [Op.AT_LEAST, -1, 1, 0]], "counts -1 sets"),
        ([TRUE, [Op.AT_LEAST, INT64.max, 1, 0]], "sets, there are 1"),
        ([[Op.EXISTS, 5, 0, 0]], "names field 5 of 5"),
        ([[Op.MATCH, -1, 0, 1]], "names field -1 of 5"),
        ([[Op.MATCH, INT64.min, 0, 1]], "names field -9223372036854775808"),
        ([[Op.MATCH, 0, 1, 2]], "reads 2 values from 1 on, there are 2"),
        ([[Op.MATCH, 0, -1, 2]], "reads 2 values from -1 on"),
        ([[Op.MATCH, 0, 0, -1]], "reads -1 values"),
        ([[Op.PLANE, 0, INT64.max, INT64.max]], "values from 9223372036854775807 on"),
        ([[Op.RANGE, YEAR, 1, 2]], "reads 2 values from 1 on"),
        ([[Op.RANGE, TAGS, 0, 2]], "is a range over a field of many values"),
    ],
)
def test_malformed_programs_are_refused(steps: list[list[int]], message: str) -> None:
    items = items_of(65)
    for level in library.levels()[1:]:
        with library.forced(level), pytest.raises(ValueError, match=message):
            eligible(items.tensors, batch(steps), torch.tensor([True]), items.n)


@pytest.mark.parametrize("row", [-1, FIRST_BLOOM + BLOOM_ROWS, INT64.max, INT64.min])
def test_rows_that_the_signature_has_not_are_refused(row: int) -> None:
    items, programs = items_of(65), batch([[Op.MATCH, 0, 0, 2]])
    programs.value_rows[0, 1, 1] = row
    for level in library.levels()[1:]:
        with library.forced(level), pytest.raises(ValueError, match=f"reads row {row} of 23"):
            eligible(items.tensors, programs, torch.tensor([True]), items.n)


def test_items_that_do_not_exist_cannot_be_excluded(level: str) -> None:
    items = items_of(65)
    with pytest.raises(ValueError, match="position 65 is excluded, of 65"):
        eligible(items.tensors, programs_of([Term(Op.CONSTANT, 1)], [[0, 65]]), torch.tensor([True]), items.n)


def test_shapes_that_do_not_fit_are_refused(level: str) -> None:
    items = items_of(65)
    programs, wanted = programs_of([Term(Op.EXISTS, YEAR)]), torch.tensor([True])
    good = items.tensors

    def refused(message: str, filter_: FilterTensors = good, n: int = 65, asked: Tensor = wanted) -> None:
        with pytest.raises(ValueError, match=message):
            eligible(filter_, programs, asked, n)

    refused(r"signature must be \[2, R, 8\] int64, got \[1, 23, 8\]", n=513)
    refused(r"needed must be \[1\] bool, got \[2\]", asked=torch.tensor([True, False]))
    refused(r"offsets must be \[67\] int64", n=66)
    refused("5 columns need as many offsets", FilterTensors(good.signature, good.columns, good.offsets[:4]))
    refused("got 5 and 3", FilterTensors(good.signature[:, :3].contiguous(), good.columns, good.offsets))
    short = [c[:-1] for c in good.columns]
    refused(r"columns must be \[65\] int64, got \[64\]", FilterTensors(good.signature, short, good.offsets))
    halves = [c.to(torch.int16) for c in good.columns]
    refused(r"columns must be \[M\] int64, got", FilterTensors(good.signature, halves, good.offsets))


def test_an_index_that_would_have_to_be_copied_is_refused() -> None:
    items = items_of(513)
    apart = items.tensors.signature.transpose(0, 1).contiguous().transpose(0, 1)
    tensors = FilterTensors(apart, items.tensors.columns, items.tensors.offsets)
    for level in library.levels()[1:]:
        with library.forced(level), pytest.raises(ValueError, match="signature must be contiguous"):
            eligible(tensors, programs_of([Term(Op.EXISTS, YEAR)]), torch.tensor([True]), items.n)
