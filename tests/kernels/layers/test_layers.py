from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from meshfold.kernels.layers.layers import layers
from meshfold.kernels.native import library


@pytest.fixture(autouse=True, scope="module", params=library.levels())
def _level(request: pytest.FixtureRequest) -> Iterator[None]:
    with library.forced(request.param):
        yield


def drawn(widths: list[int], biased: bool = True) -> tuple[list[Tensor], list[Tensor | None]]:
    """Weights and biases of layers, of numbers that keep what goes through about as large as it came."""
    generator = torch.Generator().manual_seed(sum(widths))
    pairs = list(zip(widths, widths[1:], strict=False))
    weights = [torch.randn(m, n, generator=generator) / max(n, 1) ** 0.5 for n, m in pairs]
    biases: list[Tensor | None] = [torch.randn(m, generator=generator) if biased else None for _, m in pairs]
    return weights, biases


def in_float64(
    inputs: list[Tensor], weights: list[Tensor], biases: list[Tensor | None], relus: list[bool]
) -> Tensor:
    x = torch.cat(inputs, -1).double()
    for weight, bias, relu in zip(weights, biases, relus, strict=True):
        x = functional.linear(x, weight.double(), None if bias is None else bias.double())
        x = x.relu() if relu else x
    return x


@pytest.mark.parametrize("rows", [0, 1, 11, 12, 13, 24, 25, 1000])
@pytest.mark.parametrize(
    "widths", [[1, 1], [130, 256], [64, 2], [130, 256, 31, 64, 2], [7, 33, 15, 16, 17], [3, 0, 2]]
)
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("relu", [True, False])
def test_they_are_the_products_in_float64(rows: int, widths: list[int], biased: bool, relu: bool) -> None:
    weights, biases = drawn(widths, biased)
    relus = [relu] * len(weights)
    x = torch.randn(1, rows, widths[0], generator=torch.Generator().manual_seed(rows))
    # Sums of some hundred products in float32, in whatever order.
    got = layers([x], weights, biases, relus)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), in_float64([x], weights, biases, relus), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [12, 300])
def test_inputs_stand_side_by_side_however_they_lie(rows: int) -> None:
    weights, biases = drawn([13, 40, 2])
    first, second = torch.randn(1, rows, 16)[:, :, 1::3], torch.randn(1, 8, rows).transpose(1, 2)
    inputs = [first, second, torch.randn(1, rows, 0)]
    assert [x.shape[-1] for x in inputs] == [5, 8, 0]
    got = layers(inputs, weights, biases, [True, False])
    torch.testing.assert_close(
        got.double(), in_float64(inputs, weights, biases, [True, False]), rtol=1e-5, atol=1e-5
    )
    turned = [weight.T.contiguous().T for weight in weights]
    torch.testing.assert_close(layers(inputs, turned, biases, [True, False]), got)


def test_a_row_does_not_depend_on_its_company_nor_on_threads() -> None:
    weights, biases = drawn([130, 256, 128, 64, 2])
    relus = [True, True, True, False]
    x = torch.randn(2048, 130)
    whole = layers([x], weights, biases, relus)
    if library.level() != "reference":
        for first, last in ((0, 12), (5, 100), (1999, 2048)):
            assert torch.equal(layers([x[first:last]], weights, biases, relus), whole[first:last])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(layers([x], weights, biases, relus), whole)
    finally:
        torch.set_num_threads(threads)


def test_levels_that_fuse_multiply_and_add_agree() -> None:
    weights, biases = drawn([130, 256, 128, 64, 2])
    x = torch.randn(100, 130)
    found = []
    for level in set(library.levels()) & {"avx2", "avx512"}:
        with library.forced(level):
            found.append(layers([x], weights, biases, [True, True, True, False]))
    assert all(torch.equal(found[0], other) for other in found)


def test_what_is_no_number_stays_so() -> None:
    x = torch.zeros(12, 4)
    x[3, 1], x[5, 0] = torch.nan, torch.inf
    got = layers([x], [torch.ones(2, 4), torch.ones(1, 2)], [None, None], [True, True])
    assert got.isnan().flatten().tolist() == [row == 3 for row in range(12)]
    assert got[5] == torch.inf


def test_other_numbers_are_multiplied_too() -> None:
    x, weight = torch.randn(20, 8, dtype=torch.float64), torch.randn(4, 8, dtype=torch.float64)
    assert torch.equal(layers([x], [weight], [None], [False]), functional.linear(x, weight))


@pytest.mark.parametrize(
    ("weight", "bias"),
    [
        (torch.ones(4, 9), None),
        (torch.ones(4, 8, dtype=torch.float64), None),
        (torch.ones(4, 8), torch.ones(3)),
        (torch.ones(4, 8), torch.ones(4, dtype=torch.float64)),
    ],
)
def test_what_does_not_fit_is_refused(weight: Tensor, bias: Tensor | None) -> None:
    with pytest.raises(RuntimeError):
        layers([torch.ones(20, 8)], [weight], [bias], [False])


def test_the_operator_is_what_it_is_registered_as() -> None:
    weights, biases = drawn([8, 4, 2])
    args = ([torch.randn(2, 20, 5), torch.randn(2, 20, 3)], weights, [biases[0], None], [True, False])
    torch.library.opcheck(layers.overload, args, test_utils=("test_schema", "test_faketensor"))
