"""Similarities of survivors from code and residual: 16 bits a value on both sides, exact totals.

similarity = float32(total * unit_x * unit_q)    total = fine_q . fine_x, an integer below 2^53
"""

from __future__ import annotations

import torch
from torch import Tensor

from meshfold.kernels.expect import expect
from meshfold.kernels.quantize import Quantized, fine_values

_LARGEST = torch.finfo(torch.float32).max


def rescore(queries: Quantized, items: Quantized, positions: Tensor) -> Tensor:
    """Similarities: [B, T, M] float32, 0 where the position is -1; too large ones are the largest float32.

    queries: codes [B, T, D]. items: codes [N, D]. positions: [B, M] int64 - -1 for nothing.
    """
    b, _, d = queries.codes.shape
    expect("items.codes", items.codes, ("N", d), torch.int8)
    expect("positions", positions, (b, "M"), torch.int64)
    similarities: Tensor = _rescore(
        queries.codes,
        queries.residuals,
        queries.units,
        items.codes,
        items.residuals,
        items.units,
        positions,
    )
    return similarities


@torch.library.custom_op("meshfold::rescore", mutates_args=())
def _rescore(
    query_codes: Tensor,
    query_residuals: Tensor,
    query_units: Tensor,
    codes: Tensor,
    residuals: Tensor,
    units: Tensor,
    positions: Tensor,
) -> Tensor:
    b, t, _ = query_codes.shape
    out = torch.zeros((b, t, positions.shape[1]), dtype=torch.float32, device=positions.device)
    fine_queries = fine_values(query_codes, query_residuals)
    for i in range(b):
        real = positions[i] >= 0
        at = positions[i][real]
        # Exact in float64: |total| < 2^30 D stays below 2^53 for every D up to 2^23.
        totals = fine_values(codes[at], residuals[at]) @ fine_queries[i].T
        exact = totals.T * units[at].double() * query_units[i].double().unsqueeze(1)
        out[i, :, real] = exact.clamp(-_LARGEST, _LARGEST).float()
    return out


@_rescore.register_fake
def _(
    query_codes: Tensor,
    query_residuals: Tensor,
    query_units: Tensor,
    codes: Tensor,
    residuals: Tensor,
    units: Tensor,
    positions: Tensor,
) -> Tensor:
    b, t, _ = query_codes.shape
    return query_units.new_empty((b, t, positions.shape[1]))
