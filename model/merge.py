"""The candidates of several tasks as one list."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

_LAST = 2**62


@dataclass(frozen=True, eq=False)
class Merged:
    """positions: [B, M] int64 - each once, in order of position, -1 after the last; M = T K.
    common: [B, M] bool - those that every task found."""

    positions: Tensor
    common: Tensor


def merge_tasks(found: Tensor) -> Merged:
    """found: [B, T, K] int64 - positions of each task's candidates, each once a task, -1 for nothing."""
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
