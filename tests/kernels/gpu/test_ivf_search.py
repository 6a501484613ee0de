"""The corpus of tests/kernels/hard_cases.py, on a GPU or under Triton's interpreter."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from meshfold.kernels.filter.eligible import eligible_reference
from meshfold.kernels.filter.steps import Op
from meshfold.kernels.search.ivf_reference import search_reference
from meshfold.kernels.search.tensors import Found, Limits
from tests.kernels.hard_cases import SEARCHES
from tests.kernels.hard_filters import KIND, TAGS, YEAR, match
from tests.kernels.search_cases import SearchCase, search_case

# What takes the interpreter over two seconds.
SLOW = (
    "clusters that roundings order",
    "largest totals, D = 6553",
    "largest totals, D = 140000",
    "few pass among many",
    "a deep stack",
    "a large cluster",
    "many small clusters",
    "past 2 GiB",
    "a batch of 33",
    "posting lists",
)
# Numpy, in which the interpreter calculates, says so where float32 ends; torch says nothing.
silent = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered")


@cache
def case(name: str) -> SearchCase:
    return SEARCHES[name]()


@cache
def expected(name: str) -> Found:
    drawn = case(name)
    return search_reference(drawn.vectors, drawn.ivf, drawn.filter, drawn.programs, drawn.limits, drawn.k)


def on(device: torch.device, value: Any) -> Any:
    """Tensors, lists of them and dataclasses of both, moved; rows that lay side by side are apart there."""
    if isinstance(value, Tensor):
        return value.to(device).contiguous()
    if isinstance(value, (list, tuple)):
        return [on(device, entry) for entry in value]
    if value is None or isinstance(value, int):
        return value
    return replace(value, **{f.name: on(device, getattr(value, f.name)) for f in fields(value)})


def run(drawn: SearchCase, limits: Limits) -> Found:
    from meshfold.kernels.gpu.ivf_search import search_gpu

    return search_gpu(drawn.vectors, drawn.ivf, drawn.filter, drawn.programs, limits, drawn.k)


def assert_equal(got: Found, wanted: Found) -> None:
    for field in fields(Found):
        left, right = getattr(got, field.name).cpu(), getattr(wanted, field.name)
        assert left.dtype == right.dtype
        assert torch.equal(left, right), field.name


def skip_slow(name: str, device: torch.device) -> None:
    if device.type == "cpu" and name.startswith(SLOW):
        pytest.skip("over two seconds under the interpreter")


@silent
@pytest.mark.parametrize("name", SEARCHES)
def test_a_gpu_finds_what_the_reference_finds(name: str, device: torch.device) -> None:
    skip_slow(name, device)
    drawn = on(device, case(name))
    assert_equal(run(drawn, drawn.limits), expected(name))


@silent
@pytest.mark.parametrize("name", SEARCHES)
def test_a_gpu_finds_the_same_eligible(name: str, device: torch.device) -> None:
    from meshfold.kernels.gpu.eligible import eligible_gpu

    if device.type == "cpu" and name.startswith(("a deep stack", "past 2 GiB")):
        pytest.skip("over two seconds under the interpreter")
    drawn = case(name)
    b, n = drawn.vectors.shape[0], drawn.ivf.codes.shape[0]
    wanted = torch.arange(b) % 3 < 2
    moved = on(device, drawn)
    got = eligible_gpu(moved.filter, moved.programs, wanted.to(device), n)
    reference = eligible_reference(drawn.filter, drawn.programs, wanted, n)
    assert torch.equal(got.bits.cpu(), reference.bits)
    assert torch.equal(got.counts.cpu(), reference.counts)


@pytest.mark.parametrize("spare", [0, 1, 500])
def test_room_for_what_is_scored_changes_nothing(spare: int, device: torch.device) -> None:
    name = "five tasks"
    drawn, wanted = on(device, case(name)), expected(name)
    room = int(wanted.scored.max()) + spare
    assert_equal(run(drawn, replace(drawn.limits, room=room)), wanted)


@pytest.mark.parametrize("name", ["five tasks", "filter 2", "depths", "N = 513"])
def test_a_query_alone_is_answered_as_in_its_batch(name: str, device: torch.device) -> None:
    drawn, whole = on(device, case(name)), expected(name)
    for i in range(drawn.vectors.shape[0]):
        one, row = drawn.of(i), slice(i, i + 1)
        alone = Found(
            positions=whole.positions[row, :, : one.k],
            similarities=whole.similarities[row, :, : one.k],
            opened=whole.opened[row],
            scored=whole.scored[row],
            sampled=whole.sampled[row],
        )
        assert_equal(run(one, one.limits), alone)


HUGE = 2**62
# One step each, over 4 fields, 2 values of 2 rows.
NO_PROGRAMS = {
    "an unknown operation": (99, 0, 0, 0),
    "a negative operation": (-1, 0, 0, 0),
    "no step": (Op.NOOP, 0, 0, 0),
    "and of nothing": (Op.AND, 0, 0, 0),
    "not of nothing": (Op.NOT, 0, 0, 0),
    "at least of more than there are": (Op.AT_LEAST, 3, 1, 0),
    "at least of very many": (Op.AT_LEAST, HUGE, 1, 0),
    "at least of a negative count": (Op.AT_LEAST, -1, 1, 0),
    "a field past the last": (Op.EXISTS, 4, 0, 0),
    "a field far away": (Op.RANGE, HUGE, 0, 0),
    "a negative field": (Op.MATCH, -1, 0, 1),
    "values past the last": (Op.PLANE, KIND, 1, 2),
    "values far away": (Op.MATCH, KIND, HUGE, HUGE),
    "a negative count": (Op.MATCH, KIND, 1, -1),
    "a range of one value": (Op.RANGE, YEAR, 1, 0),
    "a range over a field of many values": (Op.RANGE, TAGS, 0, 0),
}


@pytest.mark.parametrize("name", NO_PROGRAMS)
def test_what_is_no_program_passes_no_item_and_hurts_no_other(name: str, device: torch.device) -> None:
    drawn = search_case([40, 20, 30], filters=[match(KIND, 1, 2), match(KIND, 1, 2)])
    whole = search_reference(drawn.vectors, drawn.ivf, drawn.filter, drawn.programs, drawn.limits, drawn.k)
    assert whole.scored.min() > 0
    drawn.programs.steps[1, 0] = torch.tensor(NO_PROGRAMS[name])
    moved = on(device, drawn)
    got = run(moved, moved.limits)
    assert torch.equal(got.positions[0].cpu(), whole.positions[0])
    assert (got.positions[1] == -1).all()
    assert got.scored[1].sum() == got.sampled[1] == 0


def test_rows_that_a_signature_has_not_pass_no_item(device: torch.device) -> None:
    for row in (-1, 10**6, HUGE):
        drawn = search_case([40, 20, 30], filters=[match(KIND, 1, 2)])
        drawn.programs.value_rows[0, 1, 0] = row
        moved = on(device, drawn)
        assert run(moved, moved.limits).scored.sum() == 0


def test_items_that_do_not_exist_are_excluded_in_vain(device: torch.device) -> None:
    # 90 items lie in one bundle of 512.
    drawn = search_case([40, 20, 30], excluded=[[5, 5, 90, 511, 512, 517, HUGE, -1]], budget=[90], depth=[90])
    moved = on(device, drawn)
    found = run(moved, moved.limits).positions.flatten().cpu()
    assert sorted(found.tolist()) == [-1, *(p for p in range(90) if p != 5)]


def test_residuals_may_lie_on_the_host(device: torch.device) -> None:
    if device.type == "cpu":
        pytest.skip("under the interpreter everything is on the host; needs a GPU")
    from meshfold.kernels.search.ivf_search import search

    drawn = case("filter 2")
    moved = on(device, drawn)
    ivf = replace(moved.ivf, residuals=drawn.ivf.residuals.contiguous().pin_memory())
    found = search(moved.vectors, ivf, moved.filter, moved.programs, moved.limits, moved.k)
    assert_equal(found, expected("filter 2"))


def test_the_operation_runs_the_kernel(device: torch.device) -> None:
    if device.type == "cpu":
        pytest.skip("torch picks the kernel by the tensors' device; needs a GPU")
    from meshfold.kernels.search.ivf_search import search

    name = "filter 2"
    drawn = on(device, case(name))
    found = search(drawn.vectors, drawn.ivf, drawn.filter, drawn.programs, drawn.limits, drawn.k)
    assert_equal(found, expected(name))
