"""Lists of different lengths in one tensor."""

from __future__ import annotations

import torch
from torch import Tensor


def ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """The integers starts[i] to starts[i] + lengths[i] for each i, one after the other.

    starts, lengths: [n] int64 -> [sum(lengths)] int64.
    """
    before = torch.cumsum(lengths, 0) - lengths
    total = int(lengths.sum())
    steps = torch.arange(total, device=starts.device)
    return steps + torch.repeat_interleave(starts - before, lengths, output_size=total)
