"""kernels/search/probe.py in Triton: Int8 dots of query vectors and centroids on tensor cores, then clusters in order.

What is sorted is a score as int32, by a stable sort: of equal ones the smaller cluster stays first. Keys with the
cluster in their low half would come in the same order, but take twice as many passes over more bytes.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from meshfold.kernels.gpu.common import dots, ordered
from meshfold.kernels.gpu.launch import Compilation, Launch, on, tile

_QUERIES, _CLUSTERS = 16, 64


@triton.jit(do_not_specialize=["q", "c"])
def _probe_kernel(
    queries, centroids, scales, spreads, lengths, out, q, c,
    D: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_D: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    query = tl.program_id(1).to(tl.int64) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    cluster = tl.program_id(0).to(tl.int64) * BLOCK_C + tl.arange(0, BLOCK_C)
    asked, there = query < q, cluster < c
    totals = dots(queries, query, asked, centroids, cluster, there, D, BLOCK_Q, BLOCK_C, BLOCK_D, WIDE, -1)
    scale = tl.load(scales + cluster, mask=there, other=0.0)
    spread = tl.load(spreads + cluster, mask=there, other=0.0)
    length = tl.load(lengths + query, mask=asked, other=0.0)
    scores = totals.to(tl.float32) * scale[None, :] + length[:, None] * spread[None, :]
    at = query[:, None] * c + cluster[None, :]
    tl.store(out + at, ordered(scores), mask=asked[:, None] & there[None, :])


def probe_order(queries: Tensor, centroids: Tensor, scales: Tensor, spreads: Tensor) -> Tensor:
    """[Q, C] int64 - clusters, best first. queries: [Q, D] int8, else as kernels/search/probe.py."""
    (q, d), c = queries.shape, centroids.shape[0]
    scores = torch.empty((q, c), dtype=torch.int32, device=queries.device)
    lengths = queries.double().square().sum(-1).sqrt().float()
    if scores.numel():
        with on(queries):
            _probe_kernel[(triton.cdiv(c, _CLUSTERS), triton.cdiv(q, _QUERIES))](
                queries, centroids, scales, spreads, lengths, scores, q, c, **_launch(d).options()
            )
    return torch.sort(scores, dim=1, descending=True, stable=True).indices


def _launch(dimension: int) -> Launch:
    return Launch(
        {
            "D": dimension,
            "BLOCK_Q": _QUERIES,
            "BLOCK_C": _CLUSTERS,
            "BLOCK_D": tile(dimension, least=32),
            "WIDE": int(is_wide(dimension, 1 << 14)),
        },
        num_warps=4,
    )


def is_wide(dimension: int, product: int) -> bool:
    """Whether a sum of `dimension` products may leave int32. product: the largest one."""
    return dimension * product >= 1 << 31


def compilations() -> list[Compilation]:
    arguments = {"*i8": "queries centroids", "*fp32": "scales spreads lengths", "*i32": "out", "i32": "q c"}
    return [_launch(d).compilation(f"probe, D {d}", _probe_kernel, arguments) for d in (64, 128, 256, 768)]
