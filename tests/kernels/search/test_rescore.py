from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch

from meshfold.kernels.native import library
from meshfold.kernels.search.rescore import rescore
from meshfold.kernels.vectors.quantize import Quantized, dequantize, quantize

LARGEST = float(torch.finfo(torch.float32).max)


@pytest.fixture(autouse=True, scope="module", params=library.levels())
def _level(request: pytest.FixtureRequest) -> Iterator[None]:
    with library.forced(request.param):
        yield


def quantized(rng: np.random.Generator, *shape: int) -> Quantized:
    """Any codes and residuals that can come, the saturated ones included, not only those of vectors."""
    return Quantized(
        torch.from_numpy(rng.integers(-127, 128, shape).astype(np.int8)),
        torch.from_numpy(rng.integers(-128, 128, shape).astype(np.int8)),
        torch.from_numpy(rng.random(shape[:-1]).astype(np.float32)),
    )


def fine(codes: list[int], residuals: list[int]) -> list[int]:
    return [256 * c + r for c, r in zip(codes, residuals, strict=True)]


def slow(queries: Quantized, items: Quantized, i: int, task: int, position: int) -> float:
    """The total as a Python integer; then two float64 products and one rounding, as the formula says."""
    left = fine(queries.codes[i, task].tolist(), queries.residuals[i, task].tolist())
    right = fine(items.codes[position].tolist(), items.residuals[position].tolist())
    total = sum(a * b for a, b in zip(left, right, strict=True))
    assert total == int(float(total)), "a total that float64 does not hold"
    exact = total * items.scales[position].item() * queries.scales[i, task].item()
    return float(np.float32(min(max(exact, -LARGEST), LARGEST)))


@pytest.mark.parametrize("d", [1, 63, 64, 768])
@pytest.mark.parametrize("tasks", [1, 3, 5])
def test_it_is_the_integer_total_times_the_units(d: int, tasks: int) -> None:
    rng = np.random.default_rng(d + tasks)
    queries, items = quantized(rng, 2, tasks, d), quantized(rng, 9, d)
    # As many positions as tasks: a transposed answer would fit the shape.
    positions = torch.from_numpy(rng.integers(-1, 9, (2, tasks)))
    got = rescore(queries, items, positions)
    for i in range(2):
        for task in range(tasks):
            for m, position in enumerate(positions[i].tolist()):
                expected = slow(queries, items, i, task, position) if position >= 0 else 0.0
                assert got[i, task, m].item() == expected


def test_totals_are_exact_where_every_code_is_saturated() -> None:
    # No vector has a code of -128, but a file may hold one.
    ends = torch.tensor([[127, 127], [-127, -128], [-128, -128]])
    codes = ends[:, :1].expand(3, 768).to(torch.int8).contiguous()
    residuals = ends[:, 1:].expand(3, 768).to(torch.int8).contiguous()
    both = Quantized(codes, residuals, torch.ones(3))
    queries = Quantized(codes[:, None], residuals[:, None], torch.ones((3, 1)))
    got = rescore(queries, both, torch.tensor([[0, 1, 2]] * 3))
    values = (127 * 256 + 127, -127 * 256 - 128, -128 * 256 - 128)
    for i, a in enumerate(values):
        for j, b in enumerate(values):
            assert Fraction(got[i, 0, j].item()) == Fraction(float(np.float32(a * b * 768)))


def test_it_is_near_the_dot_product_of_the_vectors() -> None:
    rng = np.random.default_rng(3)
    q = torch.from_numpy(rng.standard_normal((1, 1, 64)).astype(np.float32))
    x = torch.from_numpy(rng.standard_normal((20, 64)).astype(np.float32))
    got = rescore(quantize(q), quantize(x), torch.arange(20).unsqueeze(0))[0, 0]
    exact = x.double() @ q[0, 0].double()
    lengths = x.norm(dim=1).double() * q.norm().double()
    # Half a scale of 1 / 32512 of the largest value on each side.
    assert ((got.double() - exact).abs() <= lengths * 1e-4).all()
    restored = quantize(x)
    assert torch.allclose(dequantize(restored), x, atol=1e-4)


def test_too_large_similarities_are_the_largest_float32() -> None:
    huge = quantize(torch.tensor([[3.4e38, 3.4e38], [-3.4e38, -3.4e38], [0.0, 0.0]]))
    query = quantize(torch.tensor([[[3.4e38, 3.4e38]]]))
    got = rescore(query, huge, torch.tensor([[0, 1, 2]]))
    assert got.flatten().tolist() == [LARGEST, -LARGEST, 0.0]


def test_no_position_gives_zero_and_no_column_gives_none() -> None:
    rng = np.random.default_rng(1)
    queries, items = quantized(rng, 2, 2, 8), quantized(rng, 3, 8)
    assert not rescore(queries, items, torch.full((2, 4), -1)).any()
    assert rescore(queries, items, torch.empty((2, 0), dtype=torch.int64)).shape == (2, 2, 0)


@pytest.mark.parametrize("m", [1, 15, 16, 17, 1023, 1024, 1025, 5000])
def test_many_positions_in_any_order_and_more_than_once(m: int) -> None:
    rng = np.random.default_rng(m)
    queries, items = quantized(rng, 2, 2, 20), quantized(rng, 300, 20)
    positions = torch.from_numpy(rng.integers(-5, 300, (2, m)))
    got = rescore(queries, items, positions)
    every = rescore(queries, items, torch.arange(300).expand(2, -1))
    for i in range(2):
        at = positions[i]
        assert torch.equal(got[i], torch.where(at >= 0, every[i][:, at.clamp(min=0)], 0.0))


@pytest.mark.parametrize("position", [3, 4, 2**40, 2**63 - 1])
def test_a_position_beyond_the_last_item_is_refused(position: int) -> None:
    rng = np.random.default_rng(1)
    queries, items = quantized(rng, 2, 1, 8), quantized(rng, 3, 8)
    with pytest.raises(ValueError, match=f"positions must be below 3, got {position}"):
        rescore(queries, items, torch.tensor([[0, 1], [position, -1]]))


def test_no_items_have_no_similarity() -> None:
    rng = np.random.default_rng(1)
    queries, items = quantized(rng, 2, 2, 8), quantized(rng, 0, 8)
    assert not rescore(queries, items, torch.full((2, 3), -1)).any()
    with pytest.raises(ValueError, match="positions must be below 0, got 0"):
        rescore(queries, items, torch.tensor([[-1], [0]]))


def test_the_company_of_a_query_changes_nothing() -> None:
    rng = np.random.default_rng(2)
    queries, items = quantized(rng, 5, 2, 33), quantized(rng, 40, 33)
    positions = torch.from_numpy(rng.integers(-1, 40, (5, 17)))
    whole = rescore(queries, items, positions)
    for i in range(5):
        one = Quantized(*(t[i : i + 1] for t in (queries.codes, queries.residuals, queries.scales)))
        assert torch.equal(rescore(one, items, positions[i : i + 1])[0], whole[i])


def test_shapes_that_do_not_fit_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"items.codes must be \[N, 8\] int8, got \[3, 7\]"):
        rescore(quantized(rng, 1, 1, 8), quantized(rng, 3, 7), torch.zeros((1, 1), dtype=torch.int64))
    with pytest.raises(ValueError, match=r"positions must be \[1, M\] int64, got \[2, 1\]"):
        rescore(quantized(rng, 1, 1, 8), quantized(rng, 3, 8), torch.zeros((2, 1), dtype=torch.int64))
    items = quantized(rng, 3, 8)
    short = Quantized(items.codes, items.residuals[:2], items.scales)
    with pytest.raises(ValueError, match=r"items.residuals must be \[3, 8\] int8, got \[2, 8\]"):
        rescore(quantized(rng, 1, 1, 8), short, torch.zeros((1, 1), dtype=torch.int64))
