"""Comparison of outputs up to rounding, and of a program with the module that it was exported from."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from meshfold.model.errors import InvalidData
from meshfold.model.program import Program

_LARGEST = torch.finfo(torch.float32).max
# Largest difference from another order of sums, relative to the largest value, in 32-bit and 16-bit floats.
_ROUNDING, _HALF_ROUNDING = 1e-4, 5e-2


def difference(expected: Tensor, actual: Tensor, is_half: bool, outliers: float = 0.0) -> str:
    """The size of a difference beyond rounding, as text; empty where there is none. NaN counts as 0.

    expected, actual: of one shape. outliers: share of values that may differ by more, such as ranks of near-ties.
    """
    a, b = (x.detach().double().nan_to_num(0.0, _LARGEST, -_LARGEST) for x in (expected, actual))
    if torch.equal(a, b):
        return ""
    apart, largest = (a - b).abs(), float(torch.maximum(a.abs().max(), b.abs().max()))
    beyond = apart > (_HALF_ROUNDING if is_half else _ROUNDING) * largest
    if float(beyond.double().mean()) <= outliers:
        return ""
    return f"by up to {float(apart.max()):.3g} where values reach {largest:.3g}"


def check_same(module: nn.Module, program: Program, samples: Sequence[tuple[Any, ...]]) -> None:
    """Raises InvalidData where the module in eval mode gives other values than its program, or than in a second run."""
    name = type(module.eval()).__name__
    for sample in samples:
        with torch.inference_mode():
            actual = program(*sample)
            try:
                with as_written():
                    expected, again = module(*sample), module(*sample)
            except Exception:
                # The module refuses these values, and the program does not.
                continue
        if not (
            isinstance(expected, Tensor) and isinstance(again, Tensor) and expected.shape == actual.shape
        ):
            raise InvalidData(
                f"{name} gives something else in eval mode than its exported program; give one tensor"
            )
        size = difference(expected, again, is_half=False)
        if size:
            raise InvalidData(
                f"{name} gives other values each time that it is called in eval mode ({size}): {changing(program)}"
            )
        size = difference(expected, actual, program.is_half)
        if size:
            raise InvalidData(
                f"{name} gives other values in eval mode than its exported program ({size}): {_other(module)}"
            )


def _other(module: nn.Module) -> str:
    """The probable cause of a difference between a program and its module."""
    if any(getattr(part, "enable_nested_tensor", False) for part in module.modules()):
        return (
            "its nn.TransformerEncoder gives zeros for masked places in eval mode alone; pass"
            " enable_nested_tensor=False"
        )
    return (
        "the export fixed a value that Python computes in forward (random numbers, counters, the clock,"
        " torch.compiler.is_exporting); compute it with torch from the inputs"
    )


def as_written() -> AbstractContextManager[Any]:
    """Runs modules in eager mode: torch.compile takes minutes, and its result is not published."""
    manager: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return manager


def changing(program: Program) -> str:
    """Advice for a program whose values differ from run to run."""
    drawn = program.random_operators
    if any("dropout" in operator for operator in drawn):
        return f"its dropout stays on in eval mode ({', '.join(drawn)}); pass training=self.training, or use nn.Dropout"
    if drawn:
        return f"it draws random numbers ({', '.join(drawn)}); remove them"
    return "remove random values and state between calls (a counter, a cache, the clock)"
