"""How kernels are launched: by plain functions of shape and device, so that what is compiled ahead is what runs.

Nothing is tuned at run time: another choice for another batch would be another order of sums.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Compilation:
    """One kernel at a serving shape, for compilation ahead of time.

    name: what is compiled, with its shape. kernel: the @triton.jit function. signature: the type of each argument, such
    as *i8, i64 or constexpr. constexprs: their values. fusion: whether a multiply and an add may be rounded once.
    """

    name: str
    kernel: object
    signature: dict[str, str]
    constexprs: dict[str, object]
    num_warps: int
    num_stages: int = 2
    fusion: bool = False


@dataclass(frozen=True)
class Launch:
    """What a kernel is compiled with: values of its constexprs, warps, and stages of its loops."""

    constexprs: dict[str, int]
    num_warps: int
    num_stages: int = 2

    def options(self) -> dict[str, Any]:
        """The keywords of a launch. No multiply and add becomes one: answers are the same on every device."""
        return {
            **self.constexprs,
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "enable_fp_fusion": False,
        }

    def compilation(self, name: str, kernel: Any, arguments: dict[str, str]) -> Compilation:
        """Compilation ahead of time. arguments: by type, the names of all arguments but constexprs."""
        types = {argument: kind for kind, names in arguments.items() for argument in names.split()}
        signature = {a: types[a] for a in kernel.arg_names if a in types}
        signature |= dict.fromkeys(self.constexprs, "constexpr")
        return Compilation(name, kernel, signature, dict(self.constexprs), self.num_warps, self.num_stages)


def power_of_two(size: int) -> int:
    """The least power of two that is at least `size`, and at least 1: the size of a tile that holds it."""
    return 1 << max(0, size - 1).bit_length()


def tile(dimension: int, most: int = 256, least: int = 16) -> int:
    """Values of a vector that are worked on at a time: all of them up to `most`, in a power of two of at least `least`.

    16 is the least inner size of a dot.
    """
    return min(most, max(least, power_of_two(dimension)))


def on(tensor: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the current device; this makes it the tensor's."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def reachable(name: str, tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor, if a kernel on `device` may read it; raises ValueError if not, or if it is not contiguous.

    A kernel reads tensors on its device, and in pinned host memory through the bus.
    """
    if not tensor.is_contiguous():
        raise ValueError(f"{name} must be contiguous; a copy of it may be as large as the index")
    if tensor.device != device and not (tensor.device.type == "cpu" and tensor.is_pinned()):
        raise ValueError(
            f"{name} must be on {device} or in pinned host memory, got {tensor.device}; "
            "move it there, or call pin_memory()"
        )
    return tensor
