"""The first items of an order that a set holds: the most popular of the eligible."""

from __future__ import annotations

import torch
from torch import Tensor

from meshfold.kernels.bundles import contains


@torch.library.custom_op("meshfold::first_members", mutates_args=())
def first_members(order: Tensor, sets: Tensor, wanted: Tensor, k: int) -> Tensor:
    """[B, k] int64: positions in the order given, -1 after the last.

    order: [N] int32 - positions. sets: [B, G, 8] int64 bits. wanted: [B] int64 - how many, at most k.
    """
    out = torch.full((sets.shape[0], k), -1, dtype=torch.int64, device=sets.device)
    positions = order.long()
    for b, most in enumerate(wanted.tolist()):
        if most:
            members = positions[contains(sets[b], positions)][:most]
            out[b, : members.numel()] = members
    return out


@first_members.register_fake
def _(order: Tensor, sets: Tensor, wanted: Tensor, k: int) -> Tensor:
    return sets.new_empty((sets.shape[0], k))
