from collections.abc import Iterator

import numpy as np
import pytest
import torch

from meshfold.kernels.native import library
from meshfold.kernels.vectors.items import item_vectors
from meshfold.kernels.vectors.quantize import Quantized, dequantize, quantize

DIMENSIONS = (1, 7, 63, 64, 100, 768)


@pytest.fixture(autouse=True, scope="module", params=library.levels())
def _level(request: pytest.FixtureRequest) -> Iterator[None]:
    with library.forced(request.param):
        yield


def every_value(scale: float) -> Quantized:
    """Each pair of a code and a residual once, at one scale."""
    byte = torch.arange(-128, 128, dtype=torch.int8)
    return Quantized(byte[:, None].repeat(1, 256), byte.repeat(256, 1), torch.full((256,), scale))


@pytest.mark.parametrize("scale", [0.0, 1e-45, 3e-42, 1.17549435e-38, 0.1, 1.0, 1e15, 1e34, 3.4e38])
def test_every_value_is_rounded_once(scale: float) -> None:
    items = every_value(scale)
    got = item_vectors(items, torch.arange(256))
    exact = (items.codes.numpy().astype(np.float64) * 256 + items.residuals.numpy()) * np.float64(
        np.float32(scale)
    )
    with np.errstate(over="ignore"):
        assert got.numpy().tobytes() == exact.astype(np.float32).tobytes()


@pytest.mark.parametrize("d", DIMENSIONS)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (300,), (2, 3, 0), (3, 4, 5)])
def test_the_items_stand_where_their_positions_do(d: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(d)
    items = quantize(torch.from_numpy(rng.standard_normal((40, d)).astype(np.float32)))
    positions = torch.from_numpy(np.asarray(rng.integers(0, 40, shape)))
    got = item_vectors(items, positions)
    assert got.shape == (*shape, d)
    whole = dequantize(items)
    for place, position in zip(got.reshape(-1, d), positions.flatten().tolist(), strict=True):
        assert torch.equal(place, whole[position])


def test_below_zero_is_the_first_item() -> None:
    items = quantize(torch.tensor([[1.0, -2.0], [3.0, 4.0]]))
    got = item_vectors(items, torch.tensor([-1, 1, -(2**63)]))
    assert torch.equal(got[0], got[2])
    assert got[1].tolist() == pytest.approx([3.0, 4.0], rel=1e-4)
    assert got[0].tolist() == pytest.approx([1.0, -2.0], rel=1e-4)


def test_positions_may_be_a_view() -> None:
    items = quantize(torch.randn(9, 8))
    positions = torch.arange(9).reshape(3, 3)
    assert torch.equal(item_vectors(items, positions.T), item_vectors(items, positions).transpose(0, 1))


@pytest.mark.parametrize("position", [2, 3, 2**40, 2**63 - 1])
def test_a_position_beyond_the_last_item_is_refused(position: int) -> None:
    items = quantize(torch.tensor([[1.0, -2.0], [3.0, 4.0]]))
    with pytest.raises(ValueError, match=f"positions must be below 2, got {position}"):
        item_vectors(items, torch.tensor([0, position, 1]))


def test_no_items_have_no_vectors() -> None:
    none = quantize(torch.empty((0, 4)))
    assert item_vectors(none, torch.empty((2, 0), dtype=torch.int64)).shape == (2, 0, 4)
    with pytest.raises(ValueError, match="positions must be below 0, got -1"):
        item_vectors(none, torch.tensor([-1]))


def test_tensors_that_do_not_fit_are_refused() -> None:
    items = quantize(torch.randn(9, 8))
    with pytest.raises(ValueError, match=r"positions must be \[...\] int64, got \[2\] torch.int32"):
        item_vectors(items, torch.tensor([0, 1], dtype=torch.int32))
    short = Quantized(items.codes, items.residuals[:8], items.scales)
    with pytest.raises(ValueError, match=r"items.residuals must be \[9, 8\] int8, got \[8, 8\]"):
        item_vectors(short, torch.tensor([0]))
    few = Quantized(items.codes, items.residuals, items.scales[:8])
    with pytest.raises(ValueError, match=r"items.scales must be \[9\] float32, got \[8\]"):
        item_vectors(few, torch.tensor([0]))


def test_a_table_that_is_not_contiguous_is_never_copied() -> None:
    items = quantize(torch.randn(8, 8))
    turned = Quantized(items.codes.T, items.residuals, items.scales)
    if library.level() == "reference":
        assert item_vectors(turned, torch.tensor([3])).shape == (1, 8)
    else:
        with pytest.raises(ValueError, match="codes must be contiguous"):
            item_vectors(turned, torch.tensor([3]))
