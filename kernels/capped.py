"""Which of ordered results stay under a cap of so many a value, for each query."""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from meshfold.kernels import native
from meshfold.kernels.cap_per_value import cap_per_value
from meshfold.kernels.columns import values_at
from meshfold.kernels.expect import expect
from meshfold.kernels.filter_program import FilterTensors
from meshfold.kernels.operation import operation


def capped(filter_: FilterTensors, positions: Tensor, fields: Tensor, limits: Tensor, items: int) -> Tensor:
    """[B, K] bool: whether a result stays; never where the position is -1.

    positions: [B, K] int64 - best first, -1 after the last. fields: [B] int64 - the field that is capped, -1 for
    none. limits: [B] int64 - see kernels/cap_per_value.py. items: N.
    """
    b = positions.shape[0]
    expect("positions", positions, (b, "K"), torch.int64)
    expect("fields", fields, (b,), torch.int64)
    expect("limits", limits, (b,), torch.int64)
    stays: Tensor = _capped(
        filter_.signature,
        list(filter_.columns),
        list(filter_.offsets),
        positions,
        fields,
        limits,
        items,
    )
    return stays


def capped_reference(filter_: FilterTensors, positions: Tensor, fields: Tensor, limits: Tensor) -> Tensor:
    """The same in plain torch, on any device."""
    stays = positions >= 0
    for b, (field, limit) in enumerate(zip(fields.tolist(), limits.tolist(), strict=True)):
        if field >= 0:
            real = stays[b].clone()
            at = positions[b][real]
            lengths, values = values_at(
                filter_.signature, filter_.columns[field], filter_.offsets[field], field, at
            )
            stays[b, real] = cap_per_value(lengths, values, limit)
    return stays


@operation("capped")
def _capped(
    signature: Tensor,
    columns: list[Tensor],
    offsets: list[Tensor],
    positions: Tensor,
    fields: Tensor,
    limits: Tensor,
    items: int,
) -> Tensor:
    return capped_reference(FilterTensors(signature, columns, offsets), positions, fields, limits)


@_capped.register_kernel("cpu")
def _(
    signature: Tensor,
    columns: list[Tensor],
    offsets: list[Tensor],
    positions: Tensor,
    fields: Tensor,
    limits: Tensor,
    items: int,
) -> Tensor:
    if native.library() is None:
        return capped_reference(FilterTensors(signature, columns, offsets), positions, fields, limits)
    held = [t.contiguous() for t in (positions, fields, limits)]
    stays = torch.empty(positions.shape, dtype=torch.bool)
    index = native.FilterIndex.of(signature, columns, offsets, [], items)
    native.call(
        _function(),
        ctypes.byref(index),
        held[0].data_ptr(),
        *positions.shape,
        held[1].data_ptr(),
        held[2].data_ptr(),
        stays.data_ptr(),
    )
    return stays


@_capped.register_kernel("cuda")
def _(
    signature: Tensor,
    columns: list[Tensor],
    offsets: list[Tensor],
    positions: Tensor,
    fields: Tensor,
    limits: Tensor,
    items: int,
) -> Tensor:
    from meshfold.kernels.gpu.capped import capped_gpu

    return capped_gpu(FilterTensors(signature, columns, offsets), positions, fields, limits, items)


@_capped.register_fake
def _(
    signature: Tensor,
    columns: list[Tensor],
    offsets: list[Tensor],
    positions: Tensor,
    fields: Tensor,
    limits: Tensor,
    items: int,
) -> Tensor:
    return positions.new_empty(positions.shape, dtype=torch.bool)


@cache
def _function() -> ctypes._NamedFuncPointer:
    function = native.loaded().meshfold_capped
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [pointer, pointer, number, number, pointer, pointer, pointer]
    return function
