"""The candidates of several tasks as one list."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from meshfold.kernels.expect import expect
from meshfold.kernels.native import library
from meshfold.kernels.operation import Operation

_LAST = 2**62


@dataclass(frozen=True, eq=False)
class Merged:
    """positions: [B, M] int64 - each once, ascending, -1 after the last; M = T times the candidates of a task.
    common: [B, M] bool - whether every task found it."""

    positions: Tensor
    common: Tensor


def merge_tasks(found: Tensor) -> Merged:
    """found: [B, T, M / T] int64 - positions of each task's candidates, each once a task, -1 for nothing."""
    expect("found", found, ("B", "T", "M / T"), torch.int64)
    return _merge(found)


def merge_reference(found: Tensor) -> Merged:
    """Every level gives these integers."""
    t = found.shape[1]
    ordered = torch.where(found < 0, _LAST, found).flatten(1).sort(1).values
    m = ordered.shape[1]
    first = ordered < _LAST
    first[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    # A task names a position at most once: T equal entries in a row come from T tasks.
    repeats = ordered[:, : m - t + 1] == ordered[:, t - 1 :]
    common = nn.functional.pad(first[:, : m - t + 1] & repeats, (0, t - 1))
    # Firsts before repeats, each in order.
    place = torch.argsort(torch.where(first, ordered, _LAST), dim=1, stable=True)
    kept = first.gather(1, place)
    return Merged(torch.where(kept, ordered.gather(1, place), -1), common.gather(1, place) & kept)


_merge = Operation("merge", merge_reference)


@_merge.register_native
def _(found: Tensor) -> Merged:
    out = _empty(found)
    library.call("merge", found.contiguous(), *found.shape, out.positions, out.common)
    return out


@_merge.register_fake
def _empty(found: Tensor) -> Merged:
    shape = found.shape[0], found.shape[1] * found.shape[2]
    return Merged(found.new_empty(shape), found.new_empty(shape, dtype=torch.bool))
