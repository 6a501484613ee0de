"""Sets of items as bits: bundles of 512 items, 8 words of 64 bits each, one cache line.

Bit j of word w of bundle g stands for position 512 g + 64 w + j. Bits past the last item are 0 in every set
that is handed on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from meshfold.kernels.filter.ragged import ranges

ITEMS = 512
WORDS = 8
_BUNDLES_AT_A_TIME = 4096


def count(items: int) -> int:
    """G: bundles of `items` items."""
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


def popcount(words: Tensor) -> Tensor:
    """words: [...] int64 -> [...] int64, the bits that are set."""
    # Sums of bits in fields of 2, 4, then 8 bits; masks make the arithmetic shift of int64 a logical one.
    x = words - ((words >> 1) & 0x5555_5555_5555_5555)
    x = (x & 0x3333_3333_3333_3333) + ((x >> 2) & 0x3333_3333_3333_3333)
    x = (x + ((x >> 4) & 0x0FFF_FFFF_FFFF_FFFF)) & 0x0F0F_0F0F_0F0F_0F0F
    for shift in (8, 16, 32):
        x = x + (x >> shift)
    return x & 0x7F


def below(bits: Tensor) -> Tensor:
    """bits: [...] int64, 0 to 64 -> [...] int64, words whose lowest `bits` bits are set."""
    return torch.where(bits >= 64, -1, (torch.ones_like(bits) << bits.clamp(max=63)) - 1)


def cardinality(words: Tensor) -> Tensor:
    """words: [B, G, 8] int64 -> [B] int64, items in each set."""
    return popcount(words).flatten(1).sum(1)


def held_in(words: Tensor, offsets: Tensor) -> Tensor:
    """The number of items of each set at positions offsets[c] to offsets[c + 1] - 1.

    words: [B, G, 8] int64. offsets: [C + 1] int64, ascending, at most the number of items -> [B, C] int64.
    """
    # One word more, so that the end of the last has one.
    flat = torch.nn.functional.pad(words.flatten(1), (0, 1))
    counts = popcount(flat)
    before = torch.cumsum(counts, 1) - counts
    word, bits = offsets >> 6, offsets & 63
    return (before[:, word] + popcount(flat[:, word] & below(bits))).diff(dim=1)


def gathered(rows: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
    """The bits of runs of positions, back to back, of every row of a signature.

    rows: [G, R, 8] int64. starts, lengths: [m] int64 - positions -> [G', R, 8] int64, on the device of rows.
    """
    some = lengths > 0
    starts, lengths = starts[some], lengths[some]
    ends = torch.cumsum(lengths, 0)
    firsts = ends - lengths
    made = count(int(lengths.sum()))
    out = torch.zeros((made, rows.shape[1], WORDS), dtype=torch.int64, device=rows.device)
    # A run is cut where a word of the result ends.
    first_words, last_words = firsts >> 6, (ends - 1) >> 6
    pieces = last_words - first_words + 1
    words = ranges(first_words, pieces)
    run = torch.repeat_interleave(torch.arange(len(pieces), device=pieces.device), pieces)
    low = torch.maximum(words * 64, firsts[run])
    high = torch.minimum((words + 1) * 64, ends[run])
    sources = starts[run] + low - firsts[run]
    for begin in range(0, made, _BUNDLES_AT_A_TIME):
        end = min(begin + _BUNDLES_AT_A_TIME, made)
        edges = torch.tensor([begin * WORDS, end * WORDS], device=words.device)
        part = slice(*torch.searchsorted(words, edges).tolist())
        bits = _shifted(rows, sources[part], low[part] & 63, (high - low)[part])
        whole = out.new_zeros(((end - begin) * WORDS, rows.shape[1]))
        # Runs that share a word have bits of their own in it: to add them is to unite them.
        whole.index_add_(0, words[part] - begin * WORDS, bits)
        out[begin:end] = whole.view(end - begin, WORDS, -1).transpose(1, 2)
    return out


def _shifted(rows: Tensor, sources: Tensor, to: Tensor, lengths: Tensor) -> Tensor:
    """[n, R] int64: `lengths` bits from position `sources` on, shifted to bit `to` of a word."""
    word, shift = sources >> 6, (sources & 63).unsqueeze(1)
    # Where the run ends within the word, the next one need not be there.
    after = (word + 1).clamp(max=rows.shape[0] * WORDS - 1)
    lower = (rows[word >> 3, :, word & 7] >> shift) & below(64 - shift)
    upper = torch.where(shift > 0, rows[after >> 3, :, after & 7] << (64 - shift).clamp(max=63), 0)
    return ((lower | upper) & below(lengths).unsqueeze(1)) << to.unsqueeze(1)


def contains(words: Tensor, positions: Tensor) -> Tensor:
    """words: [G, 8] int64, positions: [...] int64 -> [...] bool, whether the set holds each position."""
    # Indexed by bundle and word, so that a signature row is never copied whole.
    return ((words[positions >> 9, (positions >> 6) & 7] >> (positions & 63)) & 1).bool()


def without(words: Tensor, positions: Tensor) -> Tensor:
    """words: [G, 8] int64 less the positions: [n] int64, in which -1 stands for nothing."""
    unique = torch.unique(positions[positions >= 0])
    cleared = torch.zeros_like(words).reshape(-1)
    # Distinct positions have distinct bits, so that adding them is setting them, in any order.
    cleared.index_add_(0, unique >> 6, torch.ones_like(unique) << (unique & 63))
    return words & ~cleared.view_as(words)
