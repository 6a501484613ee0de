"""Programs as serving calls them give what their graphs give, whatever of them is computed once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from meshfold.model import program_call
from meshfold.model.program import Program, export_program, load_program
from meshfold.model.program_call import straight

X = torch.linspace(-1, 1, 4).unsqueeze(0)


class Folding(nn.Module):
    """Much of it follows from weights alone: elementwise, views of them, tensors out of nothing."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3)
        self.table = nn.Parameter(torch.randn(8, 3))
        self.gain = nn.Parameter(torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        scaled = self.table.softmax(0) * self.gain.exp()
        out: Tensor = (
            self.layer(x) + scaled[torch.arange(2)].sum(0) + self.table.view(4, 6)[1, :3].expand(1, 3)
        )
        return out


class Trees(nn.Module):
    def forward(self, given: dict[str, Tensor], pair: tuple[Tensor, Tensor]) -> dict[str, Any]:
        return {"sum": given["a"] - given["b"], "parts": [pair[0] * 2, pair[1]]}


class OfDict(nn.Module):
    def forward(self, given: dict[str, Tensor]) -> Tensor:
        return given["a"] - given["b"]


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand(4)


class Writing(nn.Module):
    """Changes what it made of a weight, which must be made anew each time."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        total = self.weight * 1
        total.add_(x.sum())
        return total


def loaded(module: nn.Module, *given: Any) -> Program:
    return load_program(export_program(module.eval(), given), "x")


def operators(program: Program) -> list[str]:
    """What a call runs."""
    graph = straight(program._exported)[0].graph
    return [node.target.__name__ for node in graph.nodes if node.op == "call_function"]


def test_what_follows_from_weights_alone_is_computed_once() -> None:
    program = loaded(Folding(), X)
    assert operators(program) == ["aten_linear_default", "aten_add_Tensor", "aten_add_Tensor"]
    for factor in (1, 2):
        assert torch.equal(program(X * factor), program._exported(X * factor))
        torch.testing.assert_close(program(X * factor), Folding()(X * factor).detach())


def test_large_tables_are_not_kept_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    program = loaded(Folding(), X)
    monkeypatch.setattr(program_call, "_KEPT", 64)
    # 8 x 3 values are more than that; rows of them that are views are no second copy.
    assert "aten_softmax_int" in operators(program)
    assert "aten_view_default" not in operators(program)
    assert torch.equal(program(X), program._exported(X))


def test_trees_are_taken_in_any_order_and_given() -> None:
    a, b = torch.tensor([5.0]), torch.tensor([3.0])
    program = loaded(Trees(), {"a": a, "b": b}, (a, b))
    given = program({"b": b, "a": a}, (a, b))
    assert given.keys() == {"sum", "parts"}
    assert given["sum"].item() == 2
    assert [part.item() for part in given["parts"]] == [10, 3]
    assert loaded(OfDict(), {"a": a, "b": b})({"b": b, "a": a}).item() == 2


def test_random_numbers_are_drawn_each_time() -> None:
    program = loaded(Random(), X)
    assert not torch.equal(program(X), program(X))


def test_what_is_changed_in_place_is_made_each_time() -> None:
    program = loaded(Writing(), X)
    for _ in range(2):
        assert torch.equal(program(X + 1), torch.full((4,), 5.0))


def test_moved_weights_are_those_that_run() -> None:
    program = loaded(Folding(), X)
    before = program(X)
    moved = program.to("meta")
    assert moved(X.to("meta")).is_meta
    again = loaded(Folding(), X).double()
    assert again(X.double()).dtype == torch.float64
    torch.testing.assert_close(again(X.double()).float(), before)


def test_exporting_a_program_sees_its_weights() -> None:
    program = loaded(Folding(), X)
    program(X)
    exported = torch.export.export(nn.Sequential(program), (X,))
    assert any(name.endswith("table") for name in exported.state_dict)
    assert torch.equal(exported.module()(X), program(X))


def test_layers_run_where_their_inputs_are() -> None:
    layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.randn(32, 4)
    program = loaded(layers, x)
    assert operators(program) == ["meshfold_layers_default"]
    torch.testing.assert_close(program(x), layers(x).detach())
    assert program.to("meta")(x.to("meta")).shape == (32, 2)
