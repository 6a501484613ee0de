"""kernels/vectors/cluster_sums.py in Triton: members are sorted by cluster, and a program sums those of one.

Sums of integers do not depend on their order, nor on who else is in the cluster.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from meshfold.kernels.gpu.common import round_even
from meshfold.kernels.gpu.launch import Compilation, Launch, on, tile
from meshfold.kernels.vectors.cluster_sums import FACTOR_MAX

# Values that a program adds at a time: 8 of each thread.
_HELD = 1024


@triton.jit
def _cluster_sums_kernel(
    codes,
    factors,
    order,
    starts,
    sums,
    D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    tiles: tl.constexpr = (D + BLOCK_D - 1) // BLOCK_D
    cluster = (tl.program_id(0) // tiles).to(tl.int64)
    value = (tl.program_id(0) % tiles) * BLOCK_D + tl.arange(0, BLOCK_D)
    place = tl.load(starts + cluster)
    end = tl.load(starts + cluster + 1)
    total = tl.zeros([BLOCK_D], tl.int64)
    while place < end:
        own = place + tl.arange(0, BLOCK_N)
        row = tl.load(order + own, mask=own < end, other=0)
        factor = tl.load(factors + row, mask=own < end, other=0.0)
        mask = (own < end)[:, None] & (value < D)[None, :]
        code = tl.load(codes + (row * D)[:, None] + value[None, :], mask=mask, other=0)
        # Below 2^31, a masked one 0.
        total += tl.sum(round_even(code.to(tl.float64) * factor[:, None]).to(tl.int64), 0)
        place += BLOCK_N
    tl.store(sums + cluster * D + value, total, mask=value < D)


def _launch(dimension: int) -> Launch:
    block = tile(dimension)
    return Launch({"D": dimension, "BLOCK_N": _HELD // block, "BLOCK_D": block}, num_warps=4)


def cluster_sums_gpu(codes: Tensor, factors: Tensor, members: Tensor, clusters: int) -> Tensor:
    """As cluster_sums_reference. Waits for the device, to see that members and factors are in range."""
    if ((members < 0) | (members >= clusters)).any():
        raise ValueError(f"members must lie in 0 to {clusters - 1}")
    if not (factors.abs() <= FACTOR_MAX).all():
        raise ValueError("factors must lie in -2^23 to 2^23")
    d = codes.shape[1]
    sums = members.new_empty((clusters, d))
    if not sums.numel():
        return sums
    if not codes.is_contiguous():
        raise ValueError("codes must be contiguous; a copy of them may be as large as the index")
    ordered = members.sort()
    starts = torch.searchsorted(ordered.values, torch.arange(clusters + 1, device=members.device))
    launch = _launch(d)
    grid = (clusters * triton.cdiv(d, launch.constexprs["BLOCK_D"]),)
    with on(codes):
        _cluster_sums_kernel[grid](
            codes, factors.contiguous(), ordered.indices, starts, sums, **launch.options()
        )
    return sums


def compilations() -> list[Compilation]:
    arguments = {"*i8": "codes", "*fp64": "factors", "*i64": "order starts sums"}
    return [
        _launch(d).compilation(f"cluster_sums, D {d}", _cluster_sums_kernel, arguments)
        for d in (64, 128, 256, 768)
    ]
