"""Items' vectors, gathered by position.

vector = float32((256 code + residual) * unit)
"""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from meshfold.kernels import native
from meshfold.kernels.expect import expect
from meshfold.kernels.operation import operation
from meshfold.kernels.quantize import Quantized, dequantize


def item_vectors(items: Quantized, positions: Tensor) -> Tensor:
    """[..., D] float32: the items' vectors. items: codes [N, D]. positions: [...] int64 - -1 gives item 0's.

    Raises ValueError where a position is N or more; on a GPU that gives NaN, for the host does not look.
    """
    n, d = items.codes.shape
    expect("items.codes", items.codes, (n, d), torch.int8)
    expect("items.residuals", items.residuals, (n, d), torch.int8)
    expect("items.units", items.units, (n,), torch.float32)
    if positions.dtype != torch.int64:
        raise ValueError(f"positions must be [...] int64, got {list(positions.shape)} {positions.dtype}")
    vectors: Tensor = _item_vectors(items.codes, items.residuals, items.units, positions)
    return vectors


@operation("item_vectors")
def _item_vectors(codes: Tensor, residuals: Tensor, units: Tensor, positions: Tensor) -> Tensor:
    return item_vectors_reference(codes, residuals, units, positions)


def item_vectors_reference(codes: Tensor, residuals: Tensor, units: Tensor, positions: Tensor) -> Tensor:
    """What every level equals, bit for bit."""
    n = codes.shape[0]
    at = positions.clamp(min=0)
    if (at >= n).any():
        raise ValueError(f"positions must be below {n}, got {int(positions.max())}")
    return dequantize(codes[at], residuals[at], units[at])


@_item_vectors.register_kernel("cpu")
def _(codes: Tensor, residuals: Tensor, units: Tensor, positions: Tensor) -> Tensor:
    if native.library() is None:
        return item_vectors_reference(codes, residuals, units, positions)
    n, d = codes.shape
    wanted = positions.contiguous()
    out = torch.empty((*positions.shape, d), dtype=torch.float32)
    native.call(
        _native(),
        codes.data_ptr(),
        residuals.data_ptr(),
        native.contiguous("units", units).data_ptr(),
        n,
        d,
        native.row_stride(codes, residuals),
        wanted.data_ptr(),
        wanted.numel(),
        out.data_ptr(),
        native.threads(),
    )
    return out


_item_vectors.register_import("cuda", "meshfold.kernels.gpu.items", "item_vectors_gpu")


@_item_vectors.register_fake
def _(codes: Tensor, residuals: Tensor, units: Tensor, positions: Tensor) -> Tensor:
    return units.new_empty((*positions.shape, codes.shape[1]))


@cache
def _native() -> ctypes._NamedFuncPointer:
    library = native.library()
    assert library is not None
    function = library.meshfold_item_vectors
    function.argtypes = [
        *[ctypes.c_void_p] * 3,
        *[ctypes.c_int64] * 3,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_void_p,
        ctypes.c_int32,
    ]
    return function
