"""kernels/search/rescore.py in Triton: a tile of one query's candidates at a time, read once for all its tasks.

A fine value is 16 bits, so that a product of two fits 32 and a total 64.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from meshfold.kernels.gpu.common import similarity
from meshfold.kernels.gpu.launch import Compilation, Launch, on, reachable, tile
from meshfold.kernels.vectors.quantize import Quantized

# Fine values that a program holds: 32 of each thread.
_HELD = 4096
_NOT_A_NUMBER = tl.constexpr(float("nan"))


@triton.jit
def _fine(codes, residuals, at, mask):
    codes = tl.load(codes + at, mask=mask, other=0).to(tl.int32)
    return codes * 256 + tl.load(residuals + at, mask=mask, other=0).to(tl.int32)


@triton.jit(do_not_specialize=["n", "t", "m"])
def _rescore_kernel(
    query_codes,
    query_residuals,
    query_scales,
    codes,
    residuals,
    scales,
    positions,
    out,
    n,
    t,
    m,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    tiles = tl.cdiv(m, BLOCK_M)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    place = (tl.program_id(0) % tiles) * BLOCK_M + tl.arange(0, BLOCK_M)
    there = place < m
    position = tl.load(positions + b * m + place, mask=there, other=-1)
    real = (position >= 0) & (position < n)
    scale = tl.load(scales + position, mask=real, other=0)
    starts = (tl.where(real, position, 0) * D)[:, None]
    value = tl.arange(0, BLOCK_D)
    if D <= BLOCK_D:
        held = _fine(codes, residuals, starts + value[None, :], real[:, None] & (value < D)[None, :])
    for task in range(t):
        query = b * t + task
        if D <= BLOCK_D:
            asked = _fine(query_codes, query_residuals, query * D + value, value < D)
            totals = tl.sum(held.to(tl.int64) * asked.to(tl.int64)[None, :], 1)
        else:
            totals = tl.zeros([BLOCK_M], tl.int64)
            for start in range(0, D, BLOCK_D):
                at = start + value
                part = _fine(codes, residuals, starts + at[None, :], real[:, None] & (at < D)[None, :])
                asked = _fine(query_codes, query_residuals, query * D + at, at < D)
                totals += tl.sum(part.to(tl.int64) * asked.to(tl.int64)[None, :], 1)
        answer = similarity(totals, scale, tl.load(query_scales + query))
        answer = tl.where(real, answer, tl.where(position < 0, 0.0, _NOT_A_NUMBER))
        tl.store(out + query * m + place, answer, mask=there)


def _launch(dimension: int) -> Launch:
    block = tile(dimension, most=1024)
    return Launch({"D": dimension, "BLOCK_M": _HELD // block, "BLOCK_D": block}, num_warps=4)


def rescore_gpu(queries: Quantized, items: Quantized, positions: Tensor) -> Tensor:
    """As rescore_reference, except that a position of N or more gives NaN: the host does not wait for positions.

    The device is that of the items' codes; residuals may be in pinned host memory.
    """
    (b, t, d), (n, m) = queries.codes.shape, (items.codes.shape[0], positions.shape[1])
    out = queries.scales.new_empty((b, t, m))
    if not out.numel():
        return out
    launch = _launch(d)
    device = items.codes.device
    tables = [reachable(name, getattr(items, name), device) for name in ("codes", "residuals", "scales")]
    grid = (b * triton.cdiv(m, launch.constexprs["BLOCK_M"]),)
    with on(items.codes):
        _rescore_kernel[grid](
            *queries.contiguous(), *tables, positions.contiguous(), out, n, t, m, **launch.options()
        )
    return out


def compilations() -> list[Compilation]:
    arguments = {
        "*i8": "query_codes query_residuals codes residuals",
        "*fp32": "query_scales scales out",
        "*i64": "positions",
        "i32": "n t m",
    }
    return [
        _launch(d).compilation(f"rescore, D {d}", _rescore_kernel, arguments)
        for d in (64, 128, 256, 768, 2048)
    ]
