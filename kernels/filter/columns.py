"""Values of items in a field, from its exact column."""

from __future__ import annotations

from torch import Tensor

from meshfold.kernels.filter.bundles import contains
from meshfold.kernels.filter.ragged import ranges


def values_at(
    signature: Tensor, column: Tensor, offsets: Tensor, field: int, positions: Tensor
) -> tuple[Tensor, Tensor]:
    """lengths: [n] int64 and values: [sum(lengths)] int64 of a field, as kernels/filter/exact.py holds it.

    positions: [n] int64.
    """
    if offsets.numel():
        first = offsets[positions]
        lengths = offsets[positions + 1] - first
        return lengths, column[ranges(first, lengths)].long()
    present = contains(signature[:, field], positions)
    return present.long(), column[positions[present]].long()
