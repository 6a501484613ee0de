"""Sets of items as bits: bundles of 512 items, 8 words of 64 bits each, one cache line.

Bit j of word w of bundle g stands for position 512 g + 64 w + j. Bits past the last item are 0 in every set
that is handed on.
"""

from __future__ import annotations

import torch
from torch import Tensor

ITEMS = 512
WORDS = 8


def count(items: int) -> int:
    """Bundles that hold so many items."""
    return -(-items // ITEMS)


def pack(members: Tensor) -> Tensor:
    """members: [N] bool -> [G, 8] int64."""
    n = members.numel()
    padded = torch.zeros(count(n) * ITEMS, dtype=torch.int64, device=members.device)
    padded[:n] = members
    bits = padded.view(-1, WORDS, 64) << torch.arange(64, device=members.device)
    # The bits are disjoint, so that the sum is their union; it wraps into the sign bit as it should.
    return bits.sum(-1)


def unpack(words: Tensor, items: int) -> Tensor:
    """words: [G, 8] int64 -> [N] bool."""
    bits = (words.reshape(-1, 1) >> torch.arange(64, device=words.device)) & 1
    return bits.reshape(-1)[:items].bool()


def cardinality(words: Tensor) -> Tensor:
    """words: [B, G, 8] int64 -> [B] int64, how many items each set holds."""
    # Sums of bits in fields of 2, 4, then 8 bits; masks make the arithmetic shift of int64 a logical one.
    x = words - ((words >> 1) & 0x5555_5555_5555_5555)
    x = (x & 0x3333_3333_3333_3333) + ((x >> 2) & 0x3333_3333_3333_3333)
    x = (x + ((x >> 4) & 0x0FFF_FFFF_FFFF_FFFF)) & 0x0F0F_0F0F_0F0F_0F0F
    for shift in (8, 16, 32):
        x = x + (x >> shift)
    return (x & 0x7F).flatten(1).sum(1)


def contains(words: Tensor, positions: Tensor) -> Tensor:
    """words: [G, 8] int64, positions: [...] int64 -> [...] bool, whether the set holds each position."""
    # By bundle and word, so that a row of a signature is read where it lies and never copied whole.
    return ((words[positions >> 9, (positions >> 6) & 7] >> (positions & 63)) & 1).bool()


def without(words: Tensor, positions: Tensor) -> Tensor:
    """words: [G, 8] int64 less the positions: [n] int64, in which -1 stands for nothing."""
    unique = torch.unique(positions[positions >= 0])
    cleared = torch.zeros_like(words).reshape(-1)
    # Distinct positions have distinct bits, so that adding them is setting them, in any order.
    cleared.index_add_(0, unique >> 6, torch.ones_like(unique) << (unique & 63))
    return words & ~cleared.view_as(words)
