"""The first items of an order that a set holds: the most popular of the eligible."""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from meshfold.kernels import native
from meshfold.kernels.bundles import WORDS, contains
from meshfold.kernels.expect import expect
from meshfold.kernels.operation import operation


def first_members(order: Tensor, sets: Tensor, wanted: Tensor, k: int) -> Tensor:
    """[B, k] int64: positions in the order given, -1 after the last.

    order: [N] int32 - positions. sets: [B, G, 8] int64 bits. wanted: [B] int64 - how many, at most k.
    """
    expect("order", order, ("N",), torch.int32)
    expect("sets", sets, ("B", "G", WORDS), torch.int64)
    expect("wanted", wanted, (sets.shape[0],), torch.int64)
    found: Tensor = _first_members(order, sets, wanted, k)
    return found


def first_members_reference(order: Tensor, sets: Tensor, wanted: Tensor, k: int) -> Tensor:
    """The same in plain torch, on any device."""
    out = torch.full((sets.shape[0], k), -1, dtype=torch.int64, device=sets.device)
    for b, most in enumerate(wanted.tolist()):
        if most:
            positions = order.long()
            members = positions[contains(sets[b], positions)][:most]
            out[b, : members.numel()] = members
    return out


@operation("first_members")
def _first_members(order: Tensor, sets: Tensor, wanted: Tensor, k: int) -> Tensor:
    return first_members_reference(order, sets, wanted, k)


@_first_members.register_kernel("cpu")
def _(order: Tensor, sets: Tensor, wanted: Tensor, k: int) -> Tensor:
    if native.library() is None:
        return first_members_reference(order, sets, wanted, k)
    held_sets, held_wanted = sets.contiguous(), wanted.contiguous()
    found = torch.empty((sets.shape[0], k), dtype=torch.int64)
    native.call(
        _function(),
        native.contiguous("order", order).data_ptr(),
        order.numel(),
        held_sets.data_ptr(),
        sets.shape[1],
        held_wanted.data_ptr(),
        sets.shape[0],
        k,
        found.data_ptr(),
    )
    return found


_first_members.register_import("cuda", "meshfold.kernels.gpu.first_members", "first_members_gpu")


@_first_members.register_fake
def _(order: Tensor, sets: Tensor, wanted: Tensor, k: int) -> Tensor:
    return sets.new_empty((sets.shape[0], k))


@cache
def _function() -> ctypes._NamedFuncPointer:
    function = native.loaded().meshfold_first_members
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [pointer, number, pointer, number, pointer, number, number, pointer]
    return function
