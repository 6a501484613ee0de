"""kernels/search/exact_search.py in Triton: keys of a tile of queries with a tile of items, from four dots on tensor
cores.

    total = 65536 code_q . code_x + 256 (code_q . residual_x + residual_q . code_x) + residual_q . residual_x

Each dot is an integer that int32 holds. torch then keeps the best keys of each run of items.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from meshfold.kernels.gpu.common import key_of, similarity
from meshfold.kernels.gpu.launch import Compilation, Launch, on, reachable, tile
from meshfold.kernels.search.exact_search import exact_search_reference
from meshfold.kernels.vectors.quantize import Quantized

# The sum of two dots is below 2^15 D, which int32 holds.
_INT32_DIMENSION = 65_535
# Keys of a run: 256 MiB.
_KEYS_AT_A_TIME = 1 << 25


@triton.jit(do_not_specialize=["b", "first", "count"])
def _keys_kernel(
    query_codes,
    query_residuals,
    query_scales,
    codes,
    residuals,
    scales,
    rows,
    out,
    b,
    first,
    count,
    D: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    tiles = tl.cdiv(count, BLOCK_N)
    query = (tl.program_id(0) // tiles).to(tl.int64) * BLOCK_B + tl.arange(0, BLOCK_B)
    place = (tl.program_id(0) % tiles) * BLOCK_N + tl.arange(0, BLOCK_N)
    item = place.to(tl.int64) + first
    value = tl.arange(0, BLOCK_D)
    upper = tl.zeros([BLOCK_B, BLOCK_N], tl.int32)
    middle = tl.zeros([BLOCK_B, BLOCK_N], tl.int32)
    lower = tl.zeros([BLOCK_B, BLOCK_N], tl.int32)
    for start in range(0, D, BLOCK_D):
        at = start + value
        asked = (query * D)[:, None] + at[None, :]
        asked_there = (query < b)[:, None] & (at < D)[None, :]
        held = (item * D)[None, :] + at[:, None]
        held_there = (place < count)[None, :] & (at < D)[:, None]
        query_code = tl.load(query_codes + asked, mask=asked_there, other=0)
        query_residual = tl.load(query_residuals + asked, mask=asked_there, other=0)
        code = tl.load(codes + held, mask=held_there, other=0)
        residual = tl.load(residuals + held, mask=held_there, other=0)
        upper += tl.dot(query_code, code, out_dtype=tl.int32)
        middle += tl.dot(query_code, residual, out_dtype=tl.int32)
        middle += tl.dot(query_residual, code, out_dtype=tl.int32)
        lower += tl.dot(query_residual, residual, out_dtype=tl.int32)
    totals = upper.to(tl.int64) * 65536 + middle.to(tl.int64) * 256 + lower.to(tl.int64)
    scale = tl.load(scales + item, mask=place < count, other=0.0)
    query_scale = tl.load(query_scales + query, mask=query < b, other=0.0)
    row = tl.load(rows + item, mask=place < count, other=0).to(tl.int64)
    keys = key_of(similarity(totals, scale[None, :], query_scale[:, None]), row[None, :])
    to = (query * count)[:, None] + place[None, :]
    tl.store(out + to, keys, mask=(query < b)[:, None] & (place < count)[None, :])


def _launch(dimension: int) -> Launch:
    # 32 is the least inner size of a dot of Int8.
    block = tile(dimension, most=64, least=32)
    return Launch({"D": dimension, "BLOCK_B": 16, "BLOCK_N": 64, "BLOCK_D": block}, num_warps=4)


def exact_search_gpu(queries: Quantized, items: Quantized, rows: Tensor, max_results: int) -> Tensor:
    """As exact_search_reference. The device is that of the items' codes; residuals may be in pinned host memory."""
    (b, d), n, device = queries.codes.shape, items.codes.shape[0], items.codes.device
    if d > _INT32_DIMENSION:
        return exact_search_reference(queries, items, rows, max_results)
    best = torch.empty((b, 0), dtype=torch.int64, device=device)
    best_keys = best
    if not b or not max_results:
        return best.new_empty((b, max_results))
    own = queries.contiguous()
    tables = [reachable(name, getattr(items, name), device) for name in ("codes", "residuals", "scales")]
    tables.append(reachable("rows", rows, device))
    launch, step = _launch(d), max(1, _KEYS_AT_A_TIME // b)
    queries = triton.cdiv(b, launch.constexprs["BLOCK_B"])
    for first in range(0, n, step):
        count = min(step, n - first)
        keys = best.new_empty((b, count))
        with on(items.codes):
            _keys_kernel[(queries * triton.cdiv(count, launch.constexprs["BLOCK_N"]),)](
                *own, *tables, keys, b, first, count, **launch.options()
            )
        # Each key is there once, so that how ties are broken does not matter.
        found = keys.topk(min(max_results, count))
        merged = torch.cat([best_keys, found.values], 1)
        positions = torch.cat([best, found.indices + first], 1)
        best_keys, places = merged.topk(min(max_results, merged.shape[1]))
        best = positions.gather(1, places)
    return best


def compilations() -> list[Compilation]:
    arguments = {
        "*i8": "query_codes query_residuals codes residuals",
        "*fp32": "query_scales scales",
        "*i32": "rows",
        "*i64": "out",
        "i32": "b first count",
    }
    return [
        _launch(d).compilation(f"exact_search, D {d}", _keys_kernel, arguments) for d in (64, 128, 256, 768)
    ]
