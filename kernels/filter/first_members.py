"""The first items of an order that a set holds: the most popular of the eligible."""

from __future__ import annotations

import torch
from torch import Tensor

from meshfold.kernels.expect import expect
from meshfold.kernels.filter.bundles import WORDS, contains
from meshfold.kernels.native import library
from meshfold.kernels.operation import Operation


def first_members(order: Tensor, sets: Tensor, max_results: Tensor, most_results: int) -> Tensor:
    """[B, most_results] int64: positions in the given order, -1 after the last.

    order: [N] int32 - positions. sets: [B, G, 8] int64 bits. max_results: [B] int64 - at most most_results.
    """
    expect("order", order, ("N",), torch.int32)
    expect("sets", sets, ("B", "G", WORDS), torch.int64)
    expect("max_results", max_results, (sets.shape[0],), torch.int64)
    return _first_members(order, sets, max_results, most_results)


def first_members_reference(order: Tensor, sets: Tensor, max_results: Tensor, most_results: int) -> Tensor:
    """Every level gives these integers."""
    out = torch.full((sets.shape[0], most_results), -1, dtype=torch.int64, device=sets.device)
    for b, most in enumerate(max_results.tolist()):
        if most:
            positions = order.long()
            members = positions[contains(sets[b], positions)][:most]
            out[b, : members.numel()] = members
    return out


_first_members = Operation("first_members", first_members_reference)
_first_members.register_import("cuda", "meshfold.kernels.gpu.first_members", "first_members_gpu")


@_first_members.register_native
def _(order: Tensor, sets: Tensor, max_results: Tensor, most_results: int) -> Tensor:
    found = torch.empty((sets.shape[0], most_results), dtype=torch.int64)
    library.call(
        "first_members",
        *(library.contiguous("order", order), order.numel(), sets.contiguous(), sets.shape[1]),
        *(max_results.contiguous(), *found.shape, found),
    )
    return found


@_first_members.register_fake
def _(order: Tensor, sets: Tensor, max_results: Tensor, most_results: int) -> Tensor:
    return sets.new_empty((sets.shape[0], most_results))
