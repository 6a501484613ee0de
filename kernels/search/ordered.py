"""One integer a candidate that orders by score, then by row: unique, so that sorting has one outcome.

    key = order-preserving int32 of the float32 score, in the high half; 2^31 - 1 - row, in the low half

Larger is better; of equal scores the smaller row, that is the smaller item id, has the larger key.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Below the key of every score that is no NaN.
NOTHING = -(2**63)
_LOW = 2**31 - 1


def keys(scores: Tensor, rows: Tensor) -> Tensor:
    """scores: [...] float32 without NaN, rows: [...] int64 below 2^31 -> [...] int64."""
    bits = (scores + 0.0).view(torch.int32).long()
    ordered = torch.where(bits < 0, bits ^ _LOW, bits)
    return (ordered << 32) | (_LOW - rows)


def best(keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """keys: [..., n] int64 -> (keys, indices): [..., min(k, n)] int64, largest first; NOTHING comes last.

    Of equal keys the smaller index comes first.
    """
    ordered = torch.sort(keys, dim=-1, descending=True, stable=True)
    return ordered.values[..., :k].contiguous(), ordered.indices[..., :k].contiguous()
