"""Similarities from code and residual: 16 bits a value on both sides, exact totals.

similarity = float32(total * scale_x * scale_q)    total = fine_q . fine_x, an integer below 2^53
"""

from __future__ import annotations

import torch
from torch import Tensor

from meshfold.kernels.expect import expect
from meshfold.kernels.native import library
from meshfold.kernels.operation import Operation
from meshfold.kernels.vectors.quantize import Quantized, fine_values

_LARGEST = torch.finfo(torch.float32).max


def rescore(queries: Quantized, items: Quantized, positions: Tensor) -> Tensor:
    """Similarities: [B, T, M] float32, 0 where the position is -1, clamped to finite float32.

    queries: codes [B, T, D]. items: codes [N, D]. positions: [B, M] int64 - -1 for nothing. Raises ValueError for a
    position of N or more; on a GPU, where the host does not wait, its similarity is NaN.
    """
    b, t, d = queries.codes.shape
    n = items.codes.shape[0]
    expect("queries.residuals", queries.residuals, (b, t, d), torch.int8)
    expect("queries.scales", queries.scales, (b, t), torch.float32)
    expect("items.codes", items.codes, ("N", d), torch.int8)
    expect("items.residuals", items.residuals, (n, d), torch.int8)
    expect("items.scales", items.scales, (n,), torch.float32)
    expect("positions", positions, (b, "M"), torch.int64)
    return _rescore(queries, items, positions)


def rescore_reference(queries: Quantized, items: Quantized, positions: Tensor) -> Tensor:
    """Every level gives these bytes."""
    b, t, _ = queries.codes.shape
    n = items.codes.shape[0]
    if (positions >= n).any():
        raise ValueError(f"positions must be below {n}, got {int(positions.max())}")
    out = torch.zeros((b, t, positions.shape[1]), dtype=torch.float32, device=positions.device)
    fine_queries = fine_values(queries.codes, queries.residuals)
    for i in range(b):
        real = positions[i] >= 0
        at = positions[i][real]
        # Exact in float64: |total| < 2^31 D stays below 2^53 for every D up to 2^22.
        totals = fine_values(items.codes[at], items.residuals[at]) @ fine_queries[i].T
        exact = totals.T * items.scales[at].double() * queries.scales[i].double().unsqueeze(1)
        out[i, :, real] = exact.clamp(-_LARGEST, _LARGEST).float()
    return out


_rescore = Operation("rescore", rescore_reference)
_rescore.register_import("cuda", "meshfold.kernels.gpu.rescore", "rescore_gpu")


@_rescore.register_native
def _(queries: Quantized, items: Quantized, positions: Tensor) -> Tensor:
    (b, t, d), m = queries.codes.shape, positions.shape[1]
    out = torch.empty((b, t, m), dtype=torch.float32)
    library.call(
        "rescore",
        *queries.contiguous(),
        *(items.codes, items.residuals, library.contiguous("scales", items.scales)),
        positions.contiguous(),
        *(b, t, items.codes.shape[0], d, library.row_stride(items.codes, items.residuals), m),
        out,
        library.threads(),
    )
    return out


@_rescore.register_fake
def _(queries: Quantized, items: Quantized, positions: Tensor) -> Tensor:
    return queries.scales.new_empty((*queries.scales.shape, positions.shape[1]))
