"""The candidates of several tasks as one list."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from meshfold.kernels import native
from meshfold.kernels.expect import expect
from meshfold.kernels.operation import operation

_LAST = 2**62


@dataclass(frozen=True, eq=False)
class Merged:
    """positions: [B, M] int64 - each once, in order of position, -1 after the last; M = T K.
    common: [B, M] bool - those that every task found."""

    positions: Tensor
    common: Tensor


def merge_tasks(found: Tensor) -> Merged:
    """found: [B, T, K] int64 - positions of each task's candidates, each once a task, -1 for nothing."""
    expect("found", found, ("B", "T", "K"), torch.int64)
    return Merged(*_merge(found))


@operation("merge")
def _merge(found: Tensor) -> tuple[Tensor, Tensor]:
    merged = merge_reference(found)
    return merged.positions, merged.common


@_merge.register_kernel("cpu")
def _(found: Tensor) -> tuple[Tensor, Tensor]:
    if native.library() is None:
        merged = merge_reference(found)
        return merged.positions, merged.common
    b, t, k = found.shape
    held = found.contiguous()
    positions, common = held.new_empty((b, t * k)), held.new_empty((b, t * k), dtype=torch.bool)
    native.call(_function(), held.data_ptr(), b, t, k, positions.data_ptr(), common.data_ptr())
    return positions, common


@_merge.register_fake
def _(found: Tensor) -> tuple[Tensor, Tensor]:
    b, t, k = found.shape
    return found.new_empty((b, t * k)), found.new_empty((b, t * k), dtype=torch.bool)


def merge_reference(found: Tensor) -> Merged:
    """The same in plain torch, on any device."""
    t = found.shape[1]
    ordered = torch.where(found < 0, _LAST, found).flatten(1).sort(1).values
    m = ordered.shape[1]
    first = ordered < _LAST
    first[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    # Each task names a position at most once, so that T equal entries in a row are T tasks.
    repeats = ordered[:, : m - t + 1] == ordered[:, t - 1 :]
    common = nn.functional.pad(first[:, : m - t + 1] & repeats, (0, t - 1))
    # Firsts before repeats, in their order.
    place = torch.argsort(torch.where(first, ordered, _LAST), dim=1, stable=True)
    kept = first.gather(1, place)
    return Merged(torch.where(kept, ordered.gather(1, place), -1), common.gather(1, place) & kept)


@cache
def _function() -> ctypes._NamedFuncPointer:
    function = native.loaded().meshfold_merge
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [pointer, number, number, number, pointer, pointer]
    return function
