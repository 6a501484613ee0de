"""Similarities of survivors from code and residual: 16 bits a value on both sides, exact totals.

similarity = float32(total * unit_x * unit_q)    total = fine_q . fine_x, an integer below 2^53
"""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from meshfold.kernels import native
from meshfold.kernels.expect import expect
from meshfold.kernels.operation import operation
from meshfold.kernels.quantize import Quantized, fine_values

_LARGEST = torch.finfo(torch.float32).max


def rescore(queries: Quantized, items: Quantized, positions: Tensor) -> Tensor:
    """Similarities: [B, T, M] float32, 0 where the position is -1; too large ones are the largest float32.

    queries: codes [B, T, D]. items: codes [N, D]. positions: [B, M] int64 - -1 for nothing. Raises ValueError where a
    position is N or more; on a GPU that gives NaN, for the host does not look.
    """
    b, t, d = queries.codes.shape
    n = items.codes.shape[0]
    expect("queries.residuals", queries.residuals, (b, t, d), torch.int8)
    expect("queries.units", queries.units, (b, t), torch.float32)
    expect("items.codes", items.codes, ("N", d), torch.int8)
    expect("items.residuals", items.residuals, (n, d), torch.int8)
    expect("items.units", items.units, (n,), torch.float32)
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


@operation("rescore")
def _rescore(
    query_codes: Tensor,
    query_residuals: Tensor,
    query_units: Tensor,
    codes: Tensor,
    residuals: Tensor,
    units: Tensor,
    positions: Tensor,
) -> Tensor:
    return rescore_reference(query_codes, query_residuals, query_units, codes, residuals, units, positions)


def rescore_reference(
    query_codes: Tensor,
    query_residuals: Tensor,
    query_units: Tensor,
    codes: Tensor,
    residuals: Tensor,
    units: Tensor,
    positions: Tensor,
) -> Tensor:
    """What every level equals, bit for bit."""
    b, t, _ = query_codes.shape
    n = codes.shape[0]
    if (positions >= n).any():
        raise ValueError(f"positions must be below {n}, got {int(positions.max())}")
    out = torch.zeros((b, t, positions.shape[1]), dtype=torch.float32, device=positions.device)
    fine_queries = fine_values(query_codes, query_residuals)
    for i in range(b):
        real = positions[i] >= 0
        at = positions[i][real]
        # Exact in float64: |total| < 2^31 D stays below 2^53 for every D up to 2^22.
        totals = fine_values(codes[at], residuals[at]) @ fine_queries[i].T
        exact = totals.T * units[at].double() * query_units[i].double().unsqueeze(1)
        out[i, :, real] = exact.clamp(-_LARGEST, _LARGEST).float()
    return out


@_rescore.register_kernel("cpu")
def _(
    query_codes: Tensor,
    query_residuals: Tensor,
    query_units: Tensor,
    codes: Tensor,
    residuals: Tensor,
    units: Tensor,
    positions: Tensor,
) -> Tensor:
    if native.library() is None:
        return rescore_reference(
            query_codes, query_residuals, query_units, codes, residuals, units, positions
        )
    (b, t, d), m = query_codes.shape, positions.shape[1]
    asked = [x.contiguous() for x in (query_codes, query_residuals, query_units)]
    tables = codes, residuals, native.contiguous("units", units)
    wanted = positions.contiguous()
    out = torch.empty((b, t, m), dtype=torch.float32)
    native.call(
        _native(),
        *(x.data_ptr() for x in (*asked, *tables, wanted)),
        b,
        t,
        codes.shape[0],
        d,
        native.row_stride(codes, residuals),
        m,
        out.data_ptr(),
        native.threads(),
    )
    return out


_rescore.register_import("cuda", "meshfold.kernels.gpu.rescore", "rescore_gpu")


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


@cache
def _native() -> ctypes._NamedFuncPointer:
    library = native.library()
    assert library is not None
    function = library.meshfold_rescore
    function.argtypes = [*[ctypes.c_void_p] * 7, *[ctypes.c_int64] * 6, ctypes.c_void_p, ctypes.c_int32]
    return function
