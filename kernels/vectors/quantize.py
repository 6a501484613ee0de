"""Float vectors as integers: 16-bit fine values, of which the high byte is the Int8 code.

    scale = max |x| / 32512       fine = round(x / scale)       code = (fine + 128) >> 8
    residual = fine - 256 code    x is about scale * fine, and about 256 * scale * code

A search compares codes, re-scoring compares fine values. Every step is one correctly rounded operation an element, so
that a vector gives the same integers on any device, in any batch. Ties round to even. Snapshots call
scales units.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from meshfold.kernels.native import library
from meshfold.kernels.operation import Operation

# 127 * 256: the largest fine value whose code still fits [-127, 127].
FINE_MAX = 32512


@dataclass(frozen=True, eq=False)
class Quantized:
    """codes, residuals: [..., D] int8. scales: [...] float32 - the value of a fine value of 1."""

    codes: Tensor
    residuals: Tensor
    scales: Tensor

    def contiguous(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.codes.contiguous(), self.residuals.contiguous(), self.scales.contiguous()


def quantize(vectors: Tensor) -> Quantized:
    """vectors: [..., D] float32, finite, D at least 1."""
    if vectors.dtype != torch.float32 or vectors.dim() == 0 or not vectors.shape[-1]:
        raise ValueError(f"vectors must be [..., D] float32, got {list(vectors.shape)} {vectors.dtype}")
    return _quantize(vectors)


def quantize_reference(vectors: Tensor) -> Quantized:
    """Every level gives these bytes."""
    exact = vectors.double()
    largest = exact.abs().amax(-1, keepdim=True)
    # A zero vector has zero codes, whatever the divisor.
    divisor = torch.where(largest > 0, largest, torch.ones_like(largest))
    fine = torch.round(exact / divisor * FINE_MAX).to(torch.int32)
    codes = (fine + 128) >> 8
    scales = (largest / FINE_MAX).squeeze(-1).float()
    return Quantized(codes.to(torch.int8), (fine - 256 * codes).to(torch.int8), scales)


_quantize = Operation("quantize", quantize_reference)
_quantize.register_import("cuda", "meshfold.kernels.gpu.quantize", "quantize_gpu")


@_quantize.register_native
def _(vectors: Tensor) -> Quantized:
    out = _empty(vectors)
    library.call(
        "quantize",
        vectors.contiguous(),
        *(out.scales.numel(), vectors.shape[-1]),
        *(out.codes, out.residuals, out.scales),
        library.threads(),
    )
    return out


@_quantize.register_fake
def _empty(vectors: Tensor) -> Quantized:
    codes = torch.empty(vectors.shape, dtype=torch.int8, device=vectors.device)
    return Quantized(codes, torch.empty_like(codes), vectors.new_empty(vectors.shape[:-1]))


def fine_values(codes: Tensor, residuals: Tensor) -> Tensor:
    """codes, residuals: [..., D] int8 -> [..., D] float64, each an integer in [-32640, 32639]."""
    return codes.double() * 256 + residuals.double()


def dequantize(items: Quantized) -> Tensor:
    """[..., D] float32: the vectors, rounded."""
    return (fine_values(items.codes, items.residuals) * items.scales.double().unsqueeze(-1)).float()
