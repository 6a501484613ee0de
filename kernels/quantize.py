"""Float vectors as integers: 16-bit fine values, of which the high byte is the Int8 code.

    unit = max |x| / 32512        fine = round(x / unit)        code = (fine + 128) >> 8
    residual = fine - 256 code    x is about unit * fine, and about 256 * unit * code

Search compares codes, re-scoring compares fine values. Every step is one correctly rounded operation an
element, so that the same vector gives the same integers on any device, in any batch. Ties round to even.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from meshfold.kernels import native
from meshfold.kernels.operation import operation

# 127 * 256: the largest fine value whose code still fits [-127, 127].
FINE_MAX = 32512


@dataclass(frozen=True, eq=False)
class Quantized:
    """codes, residuals: [..., D] int8. units: [...] float32 - what a fine value of 1 stands for."""

    codes: Tensor
    residuals: Tensor
    units: Tensor


def quantize(vectors: Tensor) -> Quantized:
    """vectors: [..., D] float32, finite, D at least 1."""
    if vectors.dtype != torch.float32 or vectors.dim() == 0 or not vectors.shape[-1]:
        raise ValueError(f"vectors must be [..., D] float32, got {list(vectors.shape)} {vectors.dtype}")
    return Quantized(*_quantize(vectors))


@operation("quantize")
def _quantize(vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return quantize_reference(vectors)


def quantize_reference(vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What every level equals, bit for bit: codes, residuals, units."""
    exact = vectors.double()
    largest = exact.abs().amax(-1, keepdim=True)
    # A zero vector has zero codes whatever it is divided by.
    divisor = torch.where(largest > 0, largest, torch.ones_like(largest))
    fine = torch.round(exact / divisor * FINE_MAX).to(torch.int32)
    codes = (fine + 128) >> 8
    units = (largest / FINE_MAX).squeeze(-1).float()
    return codes.to(torch.int8), (fine - 256 * codes).to(torch.int8), units


@_quantize.register_kernel("cpu")
def _(vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if native.library() is None:
        return quantize_reference(vectors)
    held = vectors.contiguous()
    codes = torch.empty(vectors.shape, dtype=torch.int8)
    residuals = torch.empty(vectors.shape, dtype=torch.int8)
    units = torch.empty(vectors.shape[:-1], dtype=torch.float32)
    native.call(
        _native(),
        held.data_ptr(),
        units.numel(),
        vectors.shape[-1],
        codes.data_ptr(),
        residuals.data_ptr(),
        units.data_ptr(),
        native.threads(),
    )
    return codes, residuals, units


_quantize.register_import("cuda", "meshfold.kernels.gpu.quantize", "quantize_gpu")


@_quantize.register_fake
def _(vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    codes = vectors.new_empty(vectors.shape, dtype=torch.int8)
    return codes, torch.empty_like(codes), vectors.new_empty(vectors.shape[:-1])


@cache
def _native() -> ctypes._NamedFuncPointer:
    library = native.library()
    assert library is not None
    function = library.meshfold_quantize
    function.argtypes = [
        ctypes.c_void_p,
        *[ctypes.c_int64] * 2,
        *[ctypes.c_void_p] * 3,
        ctypes.c_int32,
    ]
    return function


def fine_values(codes: Tensor, residuals: Tensor) -> Tensor:
    """codes, residuals: [..., D] int8 -> [..., D] float64, each an integer in [-32640, 32639]."""
    return codes.double() * 256 + residuals.double()


def dequantize(codes: Tensor, residuals: Tensor, units: Tensor) -> Tensor:
    """codes, residuals: [..., D] int8, units: [...] float32 -> [..., D] float32."""
    return (fine_values(codes, residuals) * units.double().unsqueeze(-1)).float()
