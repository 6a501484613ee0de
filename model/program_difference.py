"""Whether two answers differ by more than rounding, and whether a program gives what its module gives."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from meshfold.model.errors import InvalidData
from meshfold.model.program import Program

_LARGEST = torch.finfo(torch.float32).max
# Largest difference by another order of sums, relative to the largest value, in 32-bit and 16-bit floats.
_ROUNDING, _HALF_ROUNDING = 1e-4, 5e-2


def difference(wanted: Tensor, came: Tensor, is_half: bool, but_for: float = 0.0) -> str:
    """How far two answers of one shape are apart, in words; empty where it is rounding. NaN counts as 0.

    but_for: the share of values that may be apart by more, as where rounding turns the order of two.
    """
    a, b = (x.detach().double().nan_to_num(0.0, _LARGEST, -_LARGEST) for x in (wanted, came))
    if torch.equal(a, b):
        return ""
    apart, largest = (a - b).abs(), float(torch.maximum(a.abs().max(), b.abs().max()))
    beyond = apart > (_HALF_ROUNDING if is_half else _ROUNDING) * largest
    if float(beyond.double().mean()) <= but_for:
        return ""
    return f"by up to {float(apart.max()):.3g} where values reach {largest:.3g}"


def check_same(module: nn.Module, program: Program, samples: Sequence[tuple[Any, ...]]) -> None:
    """Raises InvalidData where the module in eval mode gives other values than its program, or others each time."""
    name = type(module.eval()).__name__
    for sample in samples:
        with torch.inference_mode():
            came = program(*sample)
            try:
                with as_written():
                    wanted, again = module(*sample), module(*sample)
            except Exception:
                # Values that only the module refuses.
                continue
        if not (isinstance(wanted, Tensor) and isinstance(again, Tensor) and wanted.shape == came.shape):
            raise InvalidData(
                f"{name} gives something else in eval mode than its exported program; give one tensor"
            )
        told = difference(wanted, again, is_half=False)
        if told:
            raise InvalidData(
                f"{name} gives other values each time that it is called in eval mode ({told}): {changing(program)}"
            )
        told = difference(wanted, came, program.is_half)
        if told:
            raise InvalidData(
                f"{name} gives other values in eval mode than its exported program ({told}): {_other(module)}"
            )


def _other(module: nn.Module) -> str:
    """Why a program may differ from its module."""
    if any(getattr(part, "enable_nested_tensor", False) for part in module.modules()):
        return (
            "its nn.TransformerEncoder gives zeros for what is masked, in eval mode alone; pass"
            " enable_nested_tensor=False"
        )
    return (
        "what Python computes in forward (random numbers, counters, the clock, torch.compiler.is_exporting) was fixed"
        " by the export; compute it with torch out of the inputs"
    )


def as_written() -> AbstractContextManager[Any]:
    """Modules run as Python has them: what torch.compile would make of them takes minutes and is not published."""
    manager: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return manager


def changing(program: Program) -> str:
    """Advice for a program whose values differ from run to run."""
    drawn = program.random_operators
    if any("dropout" in operator for operator in drawn):
        return f"its dropout stays on in eval mode ({', '.join(drawn)}); pass training=self.training, or use nn.Dropout"
    if drawn:
        return f"it draws random numbers ({', '.join(drawn)}); drop what is random"
    return "drop what is random or kept between calls (a counter, a cache, the clock)"
