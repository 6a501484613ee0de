"""The items that pass each query's filter and are not excluded: signatures narrow, exact columns decide."""

from __future__ import annotations

import torch
from torch import Tensor

from meshfold.kernels.bundles import ITEMS, WORDS, count, pack, unpack, without
from meshfold.kernels.filter_exact import filter_exact
from meshfold.kernels.filter_mask import filter_mask


@torch.library.custom_op("meshfold::eligible", mutates_args=())
def eligible(
    signature: Tensor,
    columns: list[Tensor],
    offsets: list[Tensor],
    steps: Tensor,
    values: Tensor,
    value_rows: Tensor,
    excluded: Tensor,
    items: int,
) -> Tensor:
    """[B, G, 8] int64: bits of the eligible among `items` items; see kernels/bundles.py.

    signature, columns, offsets: as kernels/filter_exact.py takes them. steps: [B, L, 4], values: [B, V],
    value_rows: [B, V, S] int64 - programs. excluded: [B, E] int64 - positions, -1 for nothing.
    """
    everything = pack(torch.ones(items, dtype=torch.bool, device=signature.device))
    bounds = filter_mask(signature, steps, value_rows)
    passed = torch.empty_like(bounds.sure)
    for b in range(steps.shape[0]):
        sure, maybe = bounds.sure[b] & everything, bounds.maybe[b] & everything
        undecided = torch.nonzero(unpack(maybe & ~sure, items)).squeeze(1)
        exact = filter_exact(signature, columns, offsets, steps[b], values[b], undecided)
        decided = torch.zeros(count(items) * ITEMS, dtype=torch.bool, device=sure.device)
        decided[undecided[exact]] = True
        passed[b] = without(sure | pack(decided), excluded[b])
    return passed


@eligible.register_fake
def _(
    signature: Tensor,
    columns: list[Tensor],
    offsets: list[Tensor],
    steps: Tensor,
    values: Tensor,
    value_rows: Tensor,
    excluded: Tensor,
    items: int,
) -> Tensor:
    return steps.new_empty((steps.shape[0], count(items), WORDS))
