"""What a program says that it takes and gives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from meshfold.model.program import export_program, load_program
from meshfold.model.program_signature import Signature, TensorType


class Named(nn.Module):
    def forward(self, inputs: dict[str, Tensor], beside: tuple[Tensor, Tensor]) -> dict[str, Any]:
        return {"sum": inputs["b"] + inputs["a"], "parts": [beside[0] * 2, beside[1].long()]}


def test_the_names_are_those_of_forward_and_of_dicts() -> None:
    given = ({"a": torch.zeros(2, 3), "b": torch.zeros(3)}, (torch.zeros(1), torch.zeros(4).bool()))
    program = load_program(export_program(Named(), given), "x")
    assert program.signature == Signature(
        (
            TensorType("a", (2, 3), "float32"),
            TensorType("b", (3,), "float32"),
            TensorType("beside_0", (1,), "float32"),
            TensorType("beside_1", (4,), "bool"),
        ),
        (
            TensorType("sum", (2, 3), "float32"),
            TensorType("parts", (1,), "float32"),
            TensorType("parts", (4,), "int64"),
        ),
    )


def test_one_tensor_that_is_given_has_no_name() -> None:
    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :3] * 2

    program = load_program(export_program(Half(), (torch.zeros(2, 4).bfloat16(),)), "x")
    assert program.signature == Signature(
        (TensorType("x", (2, 4), "bfloat16"),), (TensorType("", (2, 3), "bfloat16"),)
    )
