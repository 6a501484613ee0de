"""Which of ordered results stay under a cap of `limit` results a value, for each query."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from meshfold.kernels.expect import expect
from meshfold.kernels.filter.cap_per_value import cap_per_value
from meshfold.kernels.filter.columns import values_at
from meshfold.kernels.filter.steps import FilterTensors
from meshfold.kernels.native import library
from meshfold.kernels.operation import Operation


def capped(filter_: FilterTensors, positions: Tensor, fields: Tensor, limits: Tensor, items: int) -> Tensor:
    """[B, K] bool: whether a result stays; False where the position is -1.

    positions: [B, K] int64 - best first, -1 after the last. fields: [B] int64 - the capped field, -1 for none.
    limits: [B] int64 - see kernels/filter/cap_per_value.py. items: N.
    """
    b = positions.shape[0]
    expect("positions", positions, (b, "K"), torch.int64)
    expect("fields", fields, (b,), torch.int64)
    expect("limits", limits, (b,), torch.int64)
    return _capped(filter_, positions, fields, limits, items)


def capped_reference(
    filter_: FilterTensors, positions: Tensor, fields: Tensor, limits: Tensor, items: int
) -> Tensor:
    """Every level gives these bytes."""
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


_capped = Operation("capped", capped_reference)
_capped.register_import("cuda", "meshfold.kernels.gpu.capped", "capped_gpu")


@_capped.register_native
def _(filter_: FilterTensors, positions: Tensor, fields: Tensor, limits: Tensor, items: int) -> Tensor:
    stays = torch.empty(positions.shape, dtype=torch.bool)
    library.call(
        "capped",
        *(ctypes.byref(filter_.native(items)), positions.contiguous(), *positions.shape),
        *(fields.contiguous(), limits.contiguous(), stays),
    )
    return stays


@_capped.register_fake
def _(filter_: FilterTensors, positions: Tensor, fields: Tensor, limits: Tensor, items: int) -> Tensor:
    return positions.new_empty(positions.shape, dtype=torch.bool)
