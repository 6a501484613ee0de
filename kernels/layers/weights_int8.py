"""Weights of a linear layer as Int8 codes, with a scale an output and part of the inputs.

    peak = max |w|        code = round(w * (127 / peak))        w is about code * peak / 127

Parts are inputs side by side, each with a scale of its own (kernels/layers/layers_int8.py). Every step is one correctly
rounded float32 operation an element, ties to even, so that every device gives the same codes.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from meshfold.kernels.native import library
from meshfold.kernels.operation import Operation

WEIGHT_PEAK = 127.0
# Rows with a smaller peak have codes 0, so that no reciprocal overflows.
SMALLEST_PEAK = 2.0**-100
_PEAK_BYTES = 4


def weights_int8_reference(weight: Tensor, columns: list[int]) -> Tensor:
    """[M, N + 4 P] int8: the codes of a row, then the bytes of its P peaks, which are float32. Every level gives these
    bytes.

    weight: [M, N] float32. columns: of the P parts, N in all.
    """
    _check(weight, columns)
    codes, peaks = [], []
    for part in torch.split(weight, columns, 1):
        peak = part.abs().amax(1)
        codes.append(rounded(part, factor_of(peak, WEIGHT_PEAK)))
        peaks.append(peak)
    held = torch.stack(peaks, 1).contiguous().view(torch.int8)
    return torch.cat([*(part.to(torch.int8) for part in codes), held], 1)


def factor_of(peak: Tensor, steps: float) -> Tensor:
    """The factor of a row before rounding, shaped as the peaks: 0 for a row of zeros, or one that holds NaN or
    infinity."""
    usable = (peak >= SMALLEST_PEAK) & (peak <= torch.finfo(torch.float32).max)
    # On any device a scalar over a tensor may be a reciprocal times a scalar, which rounds twice.
    return torch.where(usable, torch.full_like(peak, steps) / torch.where(usable, peak, 1.0), 0.0)


def scale_of(peak: Tensor, steps: float) -> Tensor:
    """The value of a code of 1: 0 for a row of zeros, NaN for a row that holds NaN or infinity."""
    scale = torch.where(peak >= SMALLEST_PEAK, peak / torch.full_like(peak, steps), 0.0)
    return torch.where(peak <= torch.finfo(torch.float32).max, scale, torch.nan)


def rounded(values: Tensor, factor: Tensor) -> Tensor:
    """[..., N] float32, whole numbers. values: [..., N]. factor: [...] - where it is 0, all are 0."""
    scaled = torch.round(values * factor.unsqueeze(-1))
    return torch.where(factor.unsqueeze(-1) > 0, scaled, 0.0)


def unpacked(packed: Tensor, parts: int) -> tuple[Tensor, Tensor]:
    """(codes: [M, N] int8, peaks: [M, P] float32) of packed weights."""
    inner = packed.shape[1] - _PEAK_BYTES * parts
    return packed[:, :inner], packed[:, inner:].clone(memory_format=torch.contiguous_format).view(
        torch.float32
    )


def packed_width(columns: list[int]) -> int:
    """Bytes of a row of packed weights."""
    return sum(columns) + _PEAK_BYTES * len(columns)


weights_int8 = Operation("weights_int8", weights_int8_reference)


@weights_int8.register_native
def _(weight: Tensor, columns: list[int]) -> Tensor:
    _check(weight, columns)
    packed = torch.empty((weight.shape[0], packed_width(columns)), dtype=torch.int8)
    parts = (ctypes.c_int64 * len(columns))(*columns)
    library.call("weights_int8", weight.contiguous(), *weight.shape, parts, len(columns), packed)
    return packed


@weights_int8.register_fake
def _(weight: Tensor, columns: list[int]) -> Tensor:
    return weight.new_empty((weight.shape[0], packed_width(columns)), dtype=torch.int8)


def _check(weight: Tensor, columns: list[int]) -> None:
    """Raises ValueError."""
    if weight.dtype != torch.float32 or weight.dim() != 2:
        raise ValueError(f"weight must be [M, N] float32, got {list(weight.shape)} {weight.dtype}")
    if sum(columns) != weight.shape[1] or min(columns, default=0) < 1:
        raise ValueError(f"columns must be 1 or more and {weight.shape[1]} in all, got {list(columns)}")


# The operator in graphs.
WEIGHTS_INT8 = torch.ops.meshfold.weights_int8.default
