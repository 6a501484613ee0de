from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from meshfold.kernels.filter.eligible import eligible
from meshfold.kernels.native import library
from meshfold.kernels.operation import is_plain
from meshfold.kernels.search.ivf_search import search
from meshfold.kernels.search.tensors import Found
from meshfold.kernels.vectors.quantize import Quantized, _quantize, quantize
from tests.kernels.search_cases import search_case


class Seen(TorchDispatchMode):
    """The names of what is dispatched."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_plain_tensors_of_the_cpu_have_nothing_to_dispatch() -> None:
    held = torch.ones(2)
    assert is_plain(held, held[1:])
    assert is_plain()
    assert not is_plain(held, torch.nn.Parameter(held))
    assert not is_plain(held, held.to("meta"))
    assert not is_plain([held])
    with Seen():
        assert not is_plain(held)


def test_a_call_gives_what_the_operation_gives() -> None:
    vectors = torch.randn(3, 70)
    for called, dispatched in zip(_quantize(vectors).contiguous(), _quantize.overload(vectors), strict=True):
        assert torch.equal(called, dispatched)


def test_a_mode_sees_operations() -> None:
    case = search_case([30, 40])
    with Seen() as seen:
        quantize(torch.randn(2, 8))
        search(case.vectors, case.ivf, case.filter, case.programs, case.limits, case.k)
    assert "meshfold.quantize.default" in seen.names
    assert "meshfold.search.default" in seen.names


@pytest.mark.parametrize("strict", [False, True])
def test_an_export_sees_operations(strict: bool) -> None:
    class Coded(torch.nn.Module):
        def forward(self, vectors: Tensor) -> Tensor:
            return quantize(vectors).codes

    exported = torch.export.export(Coded(), (torch.randn(2, 8),), strict=strict)
    called = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert "meshfold.quantize.default" in called


@pytest.mark.skipif(not library.is_available(), reason="needs the native kernels")
def test_tables_are_checked_when_they_are_first_met() -> None:
    case = search_case([30, 40])

    def run() -> Found:
        return search(case.vectors, case.ivf, case.filter, case.programs, case.limits, case.k)

    first = run()
    again = run()
    assert torch.equal(first.positions, again.positions)
    # Queries of another dimension do not fit what was checked.
    case = search_case([30, 40], 8)
    run()
    with pytest.raises(ValueError, match=r"centroids must be \[2, 9\] int8, got \[2, 8\]"):
        search(torch.zeros((1, 1, 9)), case.ivf, case.filter, case.programs, case.limits, 20)
    # Nor does a filter of other items.
    wanted = torch.ones(1, dtype=torch.bool)
    eligible(case.filter, case.programs, wanted, 70)
    with pytest.raises(ValueError, match=r"must be \[7[12]\] int64, got \[7[01]\]"):
        eligible(case.filter, case.programs, wanted, 71)


def test_what_is_somewhere_else_than_the_queries_is_refused() -> None:
    items = Quantized(*(t.to("meta") for t in quantize(torch.randn(3, 8)).contiguous()))
    with pytest.raises(ValueError, match="codes must be on the CPU"):
        library.contiguous("codes", items.codes)
