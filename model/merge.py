"""The candidates of several tasks as one list."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_LAST = 2**62


@dataclass(frozen=True, eq=False)
class Merged:
    """positions: [B, M] int64 - each once, in order of position, -1 after the last.
    common: [B, M] bool - those that every task found."""

    positions: Tensor
    common: Tensor


def merge_tasks(found: Tensor) -> Merged:
    """found: [B, T, K] int64 - positions of each task's candidates, each once a task, -1 for nothing."""
    b, t, _ = found.shape
    ordered = torch.where(found < 0, _LAST, found).flatten(1).sort(1).values
    real = ordered < _LAST
    first = real.clone()
    first[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    # Each task names a position at most once, so that T equal entries in a row are T tasks.
    common = first.clone()
    common[:, : ordered.shape[1] - t + 1] &= ordered[:, : ordered.shape[1] - t + 1] == ordered[:, t - 1 :]
    common[:, ordered.shape[1] - t + 1 :] = False
    # Firsts before repeats, in their order; as many columns as the longest list has.
    place = torch.argsort(torch.where(first, ordered, _LAST), dim=1, stable=True)
    m = int(first.sum(1).max()) if b else 0
    place = place[:, :m]
    kept = first.gather(1, place)
    positions = torch.where(kept, ordered.gather(1, place), -1)
    return Merged(positions, common.gather(1, place) & kept)
