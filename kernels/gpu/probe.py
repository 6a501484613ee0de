"""kernels/probe.py in Triton: Int8 dots of query vectors and centroids on tensor cores, and their keys in order."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from meshfold.kernels.gpu.launch import Compilation, Launch, on, tile
from meshfold.kernels.gpu.steps import dots, key_of

_QUERIES, _CLUSTERS = 16, 64


@triton.jit(do_not_specialize=["q", "c"])
def _probe_kernel(
    queries, centroids, units, spreads, lengths, keys, q, c,
    D: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_D: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    query = tl.program_id(1).to(tl.int64) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    cluster = tl.program_id(0).to(tl.int64) * BLOCK_C + tl.arange(0, BLOCK_C)
    asked, there = query < q, cluster < c
    totals = dots(queries, query, asked, centroids, cluster, there, D, BLOCK_Q, BLOCK_C, BLOCK_D, WIDE)
    unit = tl.load(units + cluster, mask=there, other=0.0)
    spread = tl.load(spreads + cluster, mask=there, other=0.0)
    length = tl.load(lengths + query, mask=asked, other=0.0)
    scores = totals.to(tl.float32) * unit[None, :] + length[:, None] * spread[None, :]
    at = query[:, None] * c + cluster[None, :]
    tl.store(keys + at, key_of(scores, cluster[None, :]), mask=asked[:, None] & there[None, :])


def probe_order(queries: Tensor, centroids: Tensor, units: Tensor, spreads: Tensor) -> Tensor:
    """[Q, C] int64 - clusters, best first. queries: [Q, D] int8, else as kernels/probe.py."""
    (q, d), c = queries.shape, centroids.shape[0]
    keys = torch.empty((q, c), dtype=torch.int64, device=queries.device)
    lengths = queries.double().square().sum(-1).sqrt().float()
    if keys.numel():
        with on(queries):
            _probe_kernel[(triton.cdiv(c, _CLUSTERS), triton.cdiv(q, _QUERIES))](
                queries, centroids, units, spreads, lengths, keys, q, c, **_launch(d).options()
            )
    # The low half of a key tells the cluster.
    return (2**31 - 1) - (torch.sort(keys, 1, descending=True).values & 0xFFFF_FFFF)


def _launch(dimension: int) -> Launch:
    return Launch(
        {
            "D": dimension,
            "BLOCK_Q": _QUERIES,
            "BLOCK_C": _CLUSTERS,
            "BLOCK_D": tile(dimension, least=32),
            "WIDE": int(is_wide(dimension)),
        },
        num_warps=4,
    )


def is_wide(dimension: int) -> bool:
    """Whether a dot of so many codes, of which the largest product is 2^14, may leave int32."""
    return dimension << 14 >= 1 << 31


def compilations() -> list[Compilation]:
    arguments = {
        **dict.fromkeys(("queries", "centroids"), "*i8"),
        **dict.fromkeys(("units", "spreads", "lengths"), "*fp32"),
        "keys": "*i64",
        **dict.fromkeys(("q", "c"), "i32"),
    }
    return [_launch(d).compilation(f"probe, D {d}", _probe_kernel, arguments) for d in (64, 128, 256, 768)]
