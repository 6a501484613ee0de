"""kernels/vectors/items.py in Triton: a tile of positions at a time.

A fine value is 16 bits, which float32 holds, so that its product with the scale in float32 is the product in float64
rounded once.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from meshfold.kernels.gpu.launch import Compilation, Launch, on, reachable, tile
from meshfold.kernels.vectors.quantize import Quantized

# Values that a program writes: 16 of each thread.
_HELD = 2048
_NOT_A_NUMBER = tl.constexpr(float("nan"))


@triton.jit(do_not_specialize=["n", "m"])
def _item_vectors_kernel(
    codes,
    residuals,
    scales,
    positions,
    out,
    n,
    m,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    tiles: tl.constexpr = (D + BLOCK_D - 1) // BLOCK_D
    place = (tl.program_id(0) // tiles).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    value = (tl.program_id(0) % tiles) * BLOCK_D + tl.arange(0, BLOCK_D)
    there = place < m
    position = tl.maximum(tl.load(positions + place, mask=there, other=0), 0)
    real = there & (position < n)
    mask = real[:, None] & (value < D)[None, :]
    at = (tl.where(real, position, 0) * D)[:, None] + value[None, :]
    fine = tl.load(codes + at, mask=mask, other=0).to(tl.int32) * 256
    fine += tl.load(residuals + at, mask=mask, other=0).to(tl.int32)
    scale = tl.load(scales + position, mask=real, other=_NOT_A_NUMBER)
    vectors = fine.to(tl.float32) * scale[:, None]
    to = (place * D)[:, None] + value[None, :]
    tl.store(out + to, vectors, mask=there[:, None] & (value < D)[None, :])


def _launch(dimension: int) -> Launch:
    block = tile(dimension)
    return Launch({"D": dimension, "BLOCK_M": _HELD // block, "BLOCK_D": block}, num_warps=4)


def item_vectors_gpu(items: Quantized, positions: Tensor) -> Tensor:
    """As item_vectors_reference, except that a position of N or more gives NaN: the host does not wait for positions.

    The device is that of the codes; residuals may be in pinned host memory.
    """
    n, d = items.codes.shape
    out = items.scales.new_empty((*positions.shape, d))
    if not out.numel():
        return out
    launch, m = _launch(d), positions.numel()
    device = items.codes.device
    tables = [reachable(name, getattr(items, name), device) for name in ("codes", "residuals", "scales")]
    grid = (triton.cdiv(m, launch.constexprs["BLOCK_M"]) * triton.cdiv(d, launch.constexprs["BLOCK_D"]),)
    with on(items.codes):
        _item_vectors_kernel[grid](*tables, positions.contiguous(), out, n, m, **launch.options())
    return out


def compilations() -> list[Compilation]:
    arguments = {"*i8": "codes residuals", "*fp32": "scales out", "*i64": "positions", "i32": "n m"}
    return [
        _launch(d).compilation(f"item_vectors, D {d}", _item_vectors_kernel, arguments)
        for d in (64, 128, 256, 768)
    ]
