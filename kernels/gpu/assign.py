"""kernels/vectors/assign.py in Triton: dots of a tile of items with a tile of centroids on tensor cores, in int32.

The best of an item is kept as one integer, closeness above centroid as in kernels/search/ordered.py; its closeness is
calculated once more at the end, for of 0.0 and -0.0 the integer tells no difference.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from meshfold.kernels.gpu.common import ordered
from meshfold.kernels.gpu.launch import Compilation, Launch, on, reachable, tile
from meshfold.kernels.vectors.assign import assign_reference, terms

# A dot of codes is at most 2^14 D, which int32 holds.
_INT32_DIMENSION = 65_536


@triton.jit(do_not_specialize=["n", "c"])
def _assign_kernel(
    codes,
    item_factors,
    centroids,
    centroid_factors,
    lengths,
    members,
    closeness,
    n,
    c,
    D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    value = tl.arange(0, BLOCK_D)
    there = row < n
    factor = tl.load(item_factors + row, mask=there, other=0.0)
    # Below every key, of which the low half is no cluster's.
    best = tl.full([BLOCK_N], -(2**63), tl.int64)
    for first in range(0, c, BLOCK_C):
        cluster = first + tl.arange(0, BLOCK_C)
        dots = tl.zeros([BLOCK_N, BLOCK_C], tl.int32)
        for start in range(0, D, BLOCK_D):
            at = start + value
            left = tl.load(
                codes + (row * D)[:, None] + at[None, :], mask=there[:, None] & (at < D)[None, :], other=0
            )
            right = tl.load(
                centroids + (cluster.to(tl.int64) * D)[None, :] + at[:, None],
                mask=(cluster < c)[None, :] & (at < D)[:, None],
                other=0,
            )
            dots += tl.dot(left, right, out_dtype=tl.int32)
        near = dots.to(tl.float32) * tl.load(centroid_factors + cluster, mask=cluster < c, other=0.0)[None, :]
        near = near * factor[:, None] - tl.load(lengths + cluster, mask=cluster < c, other=0.0)[None, :]
        bits = ordered(near)
        # To torch NaN is above all.
        bits = tl.where(near == near, bits, 2147483647)
        keys = (bits.to(tl.int64) << 32) | (2147483647 - cluster).to(tl.int64)[None, :]
        best = tl.maximum(best, tl.max(tl.where((cluster < c)[None, :], keys, -(2**63)), 1))
    nearest = 2147483647 - (best & 2147483647)
    total = tl.zeros([BLOCK_N], tl.int32)
    for start in range(0, D, BLOCK_D):
        at = start + value
        mask = there[:, None] & (at < D)[None, :]
        left = tl.load(codes + (row * D)[:, None] + at[None, :], mask=mask, other=0)
        right = tl.load(centroids + (nearest * D)[:, None] + at[None, :], mask=mask, other=0)
        total += tl.sum(left.to(tl.int32) * right.to(tl.int32), 1)
    near = total.to(tl.float32) * tl.load(centroid_factors + nearest, mask=there, other=0.0) * factor
    tl.store(members + row, nearest, mask=there)
    tl.store(closeness + row, near - tl.load(lengths + nearest, mask=there, other=0.0), mask=there)


def _launch(dimension: int) -> Launch:
    # 32 is the least inner size of a dot of Int8.
    block = tile(dimension, most=128, least=32)
    return Launch({"D": dimension, "BLOCK_N": 64, "BLOCK_C": 64, "BLOCK_D": block}, num_warps=4)


def assign_gpu(
    codes: Tensor, scales: Tensor, centroids: Tensor, centroid_scales: Tensor
) -> tuple[Tensor, Tensor]:
    """As assign_reference."""
    (n, d), c = codes.shape, centroids.shape[0]
    if d > _INT32_DIMENSION:
        return assign_reference(codes, scales, centroids, centroid_scales)
    members = torch.empty(n, dtype=torch.int64, device=codes.device)
    closeness = scales.new_empty(n)
    if not n:
        return members, closeness
    centroid_factors, lengths = terms(centroids, centroid_scales)
    held = [t.contiguous() for t in (scales * 512, centroids, centroid_factors, lengths)]
    launch = _launch(d)
    with on(codes):
        _assign_kernel[(triton.cdiv(n, launch.constexprs["BLOCK_N"]),)](
            reachable("codes", codes, codes.device), *held, members, closeness, n, c, **launch.options()
        )
    return members, closeness


def compilations() -> list[Compilation]:
    arguments = {
        "*i8": "codes centroids",
        "*fp32": "item_factors centroid_factors lengths closeness",
        "*i64": "members",
        "i32": "n c",
    }
    return [_launch(d).compilation(f"assign, D {d}", _assign_kernel, arguments) for d in (64, 128, 256, 768)]
