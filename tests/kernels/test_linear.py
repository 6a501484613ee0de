import pytest
import torch
from torch.nn import functional

from meshfold.kernels.linear import linear


@pytest.mark.parametrize("rows", [0, 1, 15, 16, 1024])
@pytest.mark.parametrize(("inner", "outer"), [(1, 1), (130, 256), (64, 2)])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("relu", [True, False])
def test_it_is_the_product_in_float64(rows: int, inner: int, outer: int, biased: bool, relu: bool) -> None:
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(1, rows, inner, generator=generator)
    weight = torch.randn(outer, inner, generator=generator)
    bias = torch.randn(outer, generator=generator) if biased else None
    exact = functional.linear(x.double(), weight.double(), None if bias is None else bias.double())
    exact = exact.relu() if relu else exact
    # Sums of `inner` products in float32, in whatever order.
    torch.testing.assert_close(linear(x, weight, bias, relu).double(), exact, rtol=1e-5, atol=1e-5)


def test_views_are_read_as_what_they_show() -> None:
    x, weight = torch.randn(40, 64)[:, ::2], torch.randn(32, 24).T
    torch.testing.assert_close(linear(x, weight, None, False), functional.linear(x, weight))


def test_other_numbers_are_multiplied_too() -> None:
    x, weight = torch.randn(20, 8, dtype=torch.float64), torch.randn(4, 8, dtype=torch.float64)
    assert torch.equal(linear(x, weight, None, False), functional.linear(x, weight))


def test_the_operator_is_what_it_is_registered_as() -> None:
    args = (torch.randn(2, 20, 8), torch.randn(4, 8), torch.randn(4), True)
    torch.library.opcheck(linear.overload, args, test_utils=("test_schema", "test_faketensor"))
