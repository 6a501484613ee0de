from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.kernels.filter.bundles import pack
from meshfold.kernels.filter.capped import _capped, capped
from meshfold.kernels.filter.columns import values_at
from meshfold.kernels.filter.steps import FilterTensors
from meshfold.kernels.native import library

N = 600
RNG = np.random.default_rng(0)
ENDS = [-(2**63), -1, 0, 1, 2, 2**31, 2**63 - 1]
# Field 0 holds one of five integers or nothing, field 1 up to three of nine, field 2 up to six of any size.
ONE = [[int(RNG.integers(5))] if RNG.random() < 0.8 else [] for _ in range(N)]
MANY = [sorted({*RNG.integers(0, 9, RNG.integers(0, 4)).tolist()}) for _ in range(N)]
ANY = [sorted({ENDS[i] for i in RNG.integers(0, 7, RNG.integers(0, 7))}) for _ in range(N)]
FIELDS = (ONE, MANY, ANY)


def tensors() -> FilterTensors:
    none = torch.empty(0, dtype=torch.int64)
    return FilterTensors(
        torch.stack([pack(torch.tensor([bool(v) for v in field])) for field in FIELDS], 1),
        [
            torch.tensor([v[0] if v else 0 for v in ONE], dtype=torch.int32),
            torch.tensor([v for row in MANY for v in row], dtype=torch.int32),
            torch.tensor([v for row in ANY for v in row]),
        ],
        [none, *(torch.tensor([0, *map(len, field)]).cumsum(0) for field in (MANY, ANY))],
    )


def slow(positions: list[int], field: int, limit: int) -> list[bool]:
    kept: dict[int, int] = {}
    stays = []
    for p in positions:
        own = FIELDS[field][p] if p >= 0 and field >= 0 else []
        stays.append(p >= 0 and all(kept.get(v, 0) < limit for v in own))
        if stays[-1]:
            kept |= {v: kept.get(v, 0) + 1 for v in own}
    return stays


def test_values_are_those_of_the_items() -> None:
    held = tensors()
    positions = RNG.permutation(N)[:50]
    for field, items in enumerate(FIELDS):
        lengths, values = values_at(
            held.signature, held.columns[field], held.offsets[field], field, torch.from_numpy(positions)
        )
        own = [items[p] for p in positions.tolist()]
        assert lengths.tolist() == [len(v) for v in own]
        assert values.tolist() == [v for row in own for v in row]


def test_each_query_has_its_own_cap(level: str) -> None:
    positions = np.stack([RNG.permutation(N)[:200] for _ in range(5)])
    positions[1, 150:] = -1
    fields, limits = [0, 1, -1, 1, 2], [3, 2, 0, 1, 20]
    stays = capped(tensors(), torch.from_numpy(positions), torch.tensor(fields), torch.tensor(limits), N)
    assert stays.dtype == torch.bool
    for b in range(5):
        assert stays[b].tolist() == slow(positions[b].tolist(), fields[b], limits[b])


@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    st.lists(st.integers(-1, N - 1), max_size=300),
    st.integers(-1, 2),
    st.integers(-1, 40),
)
def test_results_in_any_order_and_number_stay_as_plain_python_says(
    positions: list[int], field: int, limit: int
) -> None:
    at = torch.tensor([positions], dtype=torch.int64)
    for level in library.levels():
        with library.forced(level):
            stays = capped(tensors(), at, torch.tensor([field]), torch.tensor([limit]), N)
        assert stays[0].tolist() == slow(positions, field, limit)


def test_positions_that_are_no_block_of_memory_are_read(level: str) -> None:
    positions = torch.from_numpy(RNG.permutation(N)).view(-1, 2)
    turned = positions.t()
    stays = capped(tensors(), turned, torch.tensor([1, 0]), torch.tensor([2, 3]), N)
    assert stays[0].tolist() == slow(positions[:, 0].tolist(), 1, 2)
    assert stays[1].tolist() == slow(positions[:, 1].tolist(), 0, 3)


def test_fields_and_positions_that_do_not_exist_are_refused() -> None:
    at = torch.arange(4).unsqueeze(0)
    for level in library.levels()[1:]:
        with library.forced(level):
            with pytest.raises(ValueError, match="field 3 is capped, of 3"):
                capped(tensors(), at, torch.tensor([3]), torch.tensor([1]), N)
            with pytest.raises(ValueError, match="positions hold 600, of 600"):
                capped(tensors(), at + 597, torch.tensor([0]), torch.tensor([1]), N)


def test_shapes_that_do_not_fit_are_refused(level: str) -> None:
    at = torch.arange(4).unsqueeze(0)
    with pytest.raises(ValueError, match=r"fields must be \[1\] int64, got \[2\]"):
        capped(tensors(), at, torch.tensor([0, 1]), torch.tensor([1]), N)
    with pytest.raises(ValueError, match=r"positions must be \[1, K\] int64"):
        capped(tensors(), at.int(), torch.tensor([0]), torch.tensor([1]), N)


def test_the_operator_is_what_it_is_registered_as(level: str) -> None:
    held = tensors()
    positions = torch.arange(40).view(2, 20)
    args: tuple[Any, ...] = (
        held.signature,
        list(held.columns),
        list(held.offsets),
        [],
        positions,
        torch.tensor([0, 1]),
        torch.tensor([1, 2]),
        N,
    )
    torch.library.opcheck(_capped.overload, args, test_utils=("test_schema", "test_faketensor"))
