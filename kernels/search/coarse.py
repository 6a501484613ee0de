"""The high four bits of items' codes: what a search compares first, at half the bytes of the codes.

    coarse = code >> 4, from -8 to 7        a code is about 16 coarse + 7.5
    value  = 32 coarse + 15, which is twice that
    packed = coarse_j + 8 in the low half of byte j, coarse_{j + P} + 8 in its high half; 0 beyond D

D values take P = ceil(D / 2) bytes: one cache line for 128. A score is off by about a hundredth of the product of the
vectors' lengths, so that a few times as many items as results are compared again from 16 bits; see
kernels/search/ivf_search.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Items that are packed at a time: what is in between stays in the cache.
_CHUNK = 16_384


def packed_bytes(dimension: int) -> int:
    """P: bytes of an item."""
    return (dimension + 1) // 2


def pack_coarse(codes: Tensor) -> Tensor:
    """[N, P] uint8. codes: [N, D] int8."""
    n, d = codes.shape
    width = packed_bytes(d)
    out = torch.empty((n, width), dtype=torch.uint8, device=codes.device)
    for start in range(0, n, _CHUNK):
        part = slice(start, start + _CHUNK)
        # From 0 to 15, as bytes without a sign.
        raised = ((codes[part] >> 4) + 8).view(torch.uint8)
        out[part] = raised[:, :width]
        out[part, : d - width] |= raised[:, width:] << 4
    return out


def coarse_values(codes: Tensor) -> Tensor:
    """[..., D] float64: each item's values. codes: [..., D] int8."""
    return (codes >> 4).double() * 32 + 15
