"""Which of ordered results stay under a cap of so many a value, for each query."""

from __future__ import annotations

import torch
from torch import Tensor

from meshfold.kernels.cap_per_value import cap_per_value
from meshfold.kernels.columns import values_at


@torch.library.custom_op("meshfold::capped", mutates_args=())
def capped(
    signature: Tensor,
    columns: list[Tensor],
    offsets: list[Tensor],
    positions: Tensor,
    fields: Tensor,
    limits: Tensor,
) -> Tensor:
    """[B, K] bool: whether a result stays; never where the position is -1.

    signature, columns, offsets: as kernels/filter_exact.py takes them. positions: [B, K] int64 - best first,
    -1 after the last. fields: [B] int64 - the field that is capped, -1 for none. limits: [B] int64.
    """
    stays = positions >= 0
    for b, (field, limit) in enumerate(zip(fields.tolist(), limits.tolist(), strict=True)):
        if field >= 0:
            real = stays[b].clone()
            at = positions[b][real]
            lengths, values = values_at(signature, columns[field], offsets[field], field, at)
            stays[b, real] = cap_per_value(lengths, values, limit)
    return stays


@capped.register_fake
def _(
    signature: Tensor,
    columns: list[Tensor],
    offsets: list[Tensor],
    positions: Tensor,
    fields: Tensor,
    limits: Tensor,
) -> Tensor:
    return positions.new_empty(positions.shape, dtype=torch.bool)
