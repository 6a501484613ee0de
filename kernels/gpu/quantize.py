"""kernels/vectors/quantize.py in Triton: a tile of vectors at a time, in float64 as the formula says."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from meshfold.kernels.gpu.common import round_even
from meshfold.kernels.gpu.launch import Compilation, Launch, on, tile
from meshfold.kernels.vectors.quantize import Quantized

# Values that a program holds: 16 of each thread.
_HELD = 2048


@triton.jit(do_not_specialize=["n"])
def _quantize_kernel(
    vectors,
    codes,
    residuals,
    scales,
    n,
    D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    value = tl.arange(0, BLOCK_D)
    largest = tl.zeros([BLOCK_N], tl.float32)
    for start in range(0, D, BLOCK_D):
        mask = (row < n)[:, None] & (start + value < D)[None, :]
        x = tl.load(vectors + (row * D + start)[:, None] + value[None, :], mask=mask, other=0.0)
        largest = tl.maximum(largest, tl.max(tl.abs(x), 1))
    exact = largest.to(tl.float64)
    # A zero vector has zero codes whatever it is divided by.
    divisor = tl.where(exact > 0, exact, 1.0)
    tl.store(scales + row, (exact / 32512.0).to(tl.float32), mask=row < n)
    for start in range(0, D, BLOCK_D):
        mask = (row < n)[:, None] & (start + value < D)[None, :]
        at = (row * D + start)[:, None] + value[None, :]
        x = tl.load(vectors + at, mask=mask, other=0.0)
        fine = round_even(x.to(tl.float64) / divisor[:, None] * 32512.0).to(tl.int32)
        code = (fine + 128) >> 8
        tl.store(codes + at, code.to(tl.int8), mask=mask)
        tl.store(residuals + at, (fine - 256 * code).to(tl.int8), mask=mask)


def _launch(dimension: int) -> Launch:
    block = tile(dimension, most=1024)
    return Launch({"D": dimension, "BLOCK_N": _HELD // block, "BLOCK_D": block}, num_warps=4)


def quantize_gpu(vectors: Tensor) -> Quantized:
    """As quantize_reference."""
    codes = torch.empty(vectors.shape, dtype=torch.int8, device=vectors.device)
    residuals, scales = torch.empty_like(codes), vectors.new_empty(vectors.shape[:-1])
    n, launch = scales.numel(), _launch(vectors.shape[-1])
    if n:
        held = vectors.contiguous()
        with on(vectors):
            _quantize_kernel[(triton.cdiv(n, launch.constexprs["BLOCK_N"]),)](
                held, codes, residuals, scales, n, **launch.options()
            )
    return Quantized(codes, residuals, scales)


def compilations() -> list[Compilation]:
    arguments = {"*fp32": "vectors scales", "*i8": "codes residuals", "i32": "n"}
    return [
        _launch(d).compilation(f"quantize, D {d}", _quantize_kernel, arguments) for d in (64, 128, 256, 768)
    ]
