"""The best of all items by similarity from code and residual: what recall is measured against.

similarity as in kernels/rescore.py        ties go to the smaller row
"""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from meshfold.kernels import native
from meshfold.kernels.expect import expect
from meshfold.kernels.operation import operation
from meshfold.kernels.ordered import best, keys
from meshfold.kernels.quantize import Quantized
from meshfold.kernels.rescore import rescore_reference

_ITEMS_AT_A_TIME = 8192


def exact_search(queries: Quantized, items: Quantized, rows: Tensor, depth: int) -> Tensor:
    """[B, min(depth, N)] int64: positions, best first.

    queries: codes [B, D]. items: codes [N, D]. rows: [N] int32 - each once. depth: at least 0.
    """
    (b, d), n = queries.codes.shape, items.codes.shape[0]
    expect("queries.codes", queries.codes, (b, d), torch.int8)
    expect("queries.residuals", queries.residuals, (b, d), torch.int8)
    expect("queries.units", queries.units, (b,), torch.float32)
    expect("items.codes", items.codes, (n, d), torch.int8)
    expect("items.residuals", items.residuals, (n, d), torch.int8)
    expect("items.units", items.units, (n,), torch.float32)
    expect("rows", rows, (n,), torch.int32)
    positions: Tensor = _exact_search(
        queries.codes,
        queries.residuals,
        queries.units,
        items.codes,
        items.residuals,
        items.units,
        rows,
        min(depth, n),
    )
    return positions


@operation("exact_search")
def _exact_search(
    query_codes: Tensor,
    query_residuals: Tensor,
    query_units: Tensor,
    codes: Tensor,
    residuals: Tensor,
    units: Tensor,
    rows: Tensor,
    depth: int,
) -> Tensor:
    return exact_search_reference(
        query_codes, query_residuals, query_units, codes, residuals, units, rows, depth
    )


def exact_search_reference(
    query_codes: Tensor,
    query_residuals: Tensor,
    query_units: Tensor,
    codes: Tensor,
    residuals: Tensor,
    units: Tensor,
    rows: Tensor,
    depth: int,
) -> Tensor:
    """What every level equals."""
    together = [t.unsqueeze(0) for t in (query_codes, query_residuals, query_units)]
    b, n = query_codes.shape[0], codes.shape[0]
    held_keys = torch.empty((b, 0), dtype=torch.int64, device=codes.device)
    held = torch.empty((b, 0), dtype=torch.int64, device=codes.device)
    for start in range(0, n, _ITEMS_AT_A_TIME):
        part = torch.arange(start, min(start + _ITEMS_AT_A_TIME, n), device=codes.device)
        scores = rescore_reference(
            together[0], together[1], together[2], codes, residuals, units, part.unsqueeze(0)
        )[0]
        held_keys = torch.cat([held_keys, keys(scores, rows[part].long().expand_as(scores))], 1)
        held = torch.cat([held, part.expand_as(scores)], 1)
        held_keys, indices = best(held_keys, depth)
        held = held.gather(1, indices)
    return held


@_exact_search.register_kernel("cpu")
def _(
    query_codes: Tensor,
    query_residuals: Tensor,
    query_units: Tensor,
    codes: Tensor,
    residuals: Tensor,
    units: Tensor,
    rows: Tensor,
    depth: int,
) -> Tensor:
    if native.library() is None:
        return exact_search_reference(
            query_codes, query_residuals, query_units, codes, residuals, units, rows, depth
        )
    asked = [t.contiguous() for t in (query_codes, query_residuals, query_units)]
    tables = codes, residuals, native.contiguous("units", units), native.contiguous("rows", rows)
    positions = torch.empty((query_codes.shape[0], depth), dtype=torch.int64)
    native.call(
        _native(),
        *(t.data_ptr() for t in (*asked, *tables)),
        query_codes.shape[0],
        *codes.shape,
        native.row_stride(codes, residuals),
        depth,
        positions.data_ptr(),
        native.threads(),
    )
    return positions


_exact_search.register_import("cuda", "meshfold.kernels.gpu.exact_search", "exact_search_gpu")


@_exact_search.register_fake
def _(
    query_codes: Tensor,
    query_residuals: Tensor,
    query_units: Tensor,
    codes: Tensor,
    residuals: Tensor,
    units: Tensor,
    rows: Tensor,
    depth: int,
) -> Tensor:
    return query_codes.new_empty((query_codes.shape[0], depth), dtype=torch.int64)


@cache
def _native() -> ctypes._NamedFuncPointer:
    library = native.library()
    assert library is not None
    function = library.meshfold_exact_search
    function.argtypes = [*[ctypes.c_void_p] * 7, *[ctypes.c_int64] * 5, ctypes.c_void_p, ctypes.c_int32]
    return function
