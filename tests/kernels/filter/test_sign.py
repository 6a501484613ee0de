from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from meshfold.kernels.filter.bundles import count
from meshfold.kernels.filter.sign import SignedField, _sign, hashed_rows, sign
from meshfold.kernels.native import library
from tests.kernels.hard_signs import INT64, field, random_fields

NONE = torch.empty(0, dtype=torch.int64)
WRAP = 1 << 64


def mix(x: int) -> int:
    """splitmix64's finaliser in plain Python."""
    x = (x + 0x9E37_79B9_7F4A_7C15) % WRAP
    x = (x ^ x >> 30) * 0xBF58_476D_1CE4_E5B9 % WRAP
    x = (x ^ x >> 27) * 0x94D0_49BB_1331_11EB % WRAP
    return x ^ x >> 31


def rows_of(value: int, part: int, hashes: int) -> list[int]:
    return [h * part + ((mix(value % WRAP ^ mix(h + 1)) >> 32) * part >> 32) for h in range(hashes)]


def slow(
    fields: Sequence[SignedField], held: Sequence[Sequence[Sequence[int]]], order: Sequence[int], rows: int
) -> list[list[list[int]]]:
    """The signature in plain Python, as unsigned words."""
    words = [[[0] * 8 for _ in range(rows)] for _ in range(-(-len(order) // 512))]
    for position, place in enumerate(order):
        for f, (signed, items) in enumerate(zip(fields, held, strict=True)):
            own = [f] if items[place] else []
            for value in items[place]:
                planes = signed.planes.tolist()
                if value in planes:
                    own.append(signed.first + planes.index(value))
                else:
                    own += [
                        signed.first + len(planes) + row for row in rows_of(value, signed.part, signed.hashes)
                    ]
            for row in own:
                words[position // 512][row][position % 512 // 64] |= 1 << position % 64
    return words


def unsigned(signature: Tensor) -> list[list[list[int]]]:
    return [[[word % WRAP for word in row] for row in bundle] for bundle in signature.tolist()]


@pytest.mark.parametrize("n", [0, 1, 63, 64, 511, 512, 513, 1100])
def test_every_item_has_the_rows_of_its_fields_and_values(level: str, n: int) -> None:
    fields, held, rows = random_fields(n)
    order = np.random.default_rng(1).permutation(n)
    signature = sign(fields, torch.from_numpy(order), rows)
    assert signature.shape == (count(n), rows, 8)
    assert signature.dtype == torch.int64
    assert unsigned(signature) == slow(fields, held, order.tolist(), rows)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    st.lists(st.integers(int(INT64.min), int(INT64.max)), min_size=1, max_size=20),
    st.integers(1, 400),
    st.integers(1, 8),
)
def test_every_level_hashes_alike(values: list[int], part: int, hashes: int) -> None:
    expected = [rows_of(value, part, hashes) for value in values]
    assert hashed_rows(torch.tensor(values), part, hashes).tolist() == expected
    items = field([[v] for v in values], (), 1, part, hashes)
    for level in library.levels():
        with library.forced(level):
            signature = sign([items], torch.arange(len(values)), 1 + part * hashes)
        words = signature[0, 1:, 0].tolist()
        for item, rows in enumerate(expected):
            assert [row for row, word in enumerate(words) if word >> item & 1] == rows


def test_a_hash_has_rows_of_its_own() -> None:
    rows = hashed_rows(torch.arange(-5000, 5000), 25, 4)
    assert (rows // 25 == torch.arange(4)).all()
    for block in rows.unbind(1):
        times = torch.bincount(block % 25, minlength=25)
        assert times.min() > 300
        assert times.max() < 500


def test_the_number_of_threads_changes_nothing() -> None:
    fields, _, rows = random_fields(9000)
    order = torch.randperm(9000, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    signed = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            signed.append(sign(fields, order, rows))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(signed[0], signed[1])
    assert torch.equal(signed[0], signed[2])


def test_what_does_not_fit_is_refused(level: str) -> None:
    good, order = field([[1], [2, 3], []], (), 1, 10, 2), torch.tensor([2, 0, 1])
    with pytest.raises(ValueError, match=r"offsets must be \[4\] int64, got \[3\]"):
        sign([replace(good, offsets=good.offsets[:3])], order, 30)
    with pytest.raises(ValueError, match=r"values must be \[M\] int64"):
        sign([replace(good, values=good.values.int())], order, 30)
    with pytest.raises(ValueError, match="field 0 takes 20 rows from row 1 on, of 20"):
        sign([good], order, 20)
    with pytest.raises(ValueError, match="field 0 takes 20 rows from row 0 on"):
        sign([replace(good, first=0)], order, 30)
    with pytest.raises(ValueError, match="1 fields need as many rows"):
        sign([replace(good, hashes=-1)], order, 30)
    with pytest.raises(ValueError, match="order must be"):
        sign([good], order.int(), 30)


def test_values_without_rows_are_refused(level: str) -> None:
    with pytest.raises(ValueError, match="an item holds .*no plane"):
        sign([field([[1], [2], [9]], [1, 2, 3], 1)], torch.arange(3), 4)


def test_places_that_do_not_exist_are_refused() -> None:
    for level in library.levels()[1:]:
        with library.forced(level):
            for place in (-1, 3):
                with pytest.raises(ValueError, match=f"order holds place {place}, of 3"):
                    sign([field([[], [], []])], torch.tensor([0, place, 1]), 1)


def test_the_operator_is_what_it_is_registered_as(level: str) -> None:
    fields, _, rows = random_fields(70)
    args = (
        [f.offsets for f in fields],
        [f.values for f in fields],
        [f.planes for f in fields],
        [f.first for f in fields],
        [f.part for f in fields],
        [f.hashes for f in fields],
        torch.arange(70),
        rows,
    )
    torch.library.opcheck(_sign.overload, args, test_utils=("test_schema", "test_faketensor"))
