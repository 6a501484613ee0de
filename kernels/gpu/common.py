"""Steps that several kernels share."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def similarity(totals, scales, query_scales):
    """totals: int64, scales: float32 - of the items, query_scales: float32 -> float32."""
    exact = totals.to(tl.float64) * scales.to(tl.float64) * query_scales.to(tl.float64)
    # The ends of float32.
    return tl.minimum(tl.maximum(exact, -3.4028234663852886e38), 3.4028234663852886e38).to(tl.float32)


@triton.jit
def round_even(x):
    """x: float64, at most 2^51 on either side of 0 -> the nearest integer, ties to even, as float64.

    At 1.5 * 2^52 float64 has no fraction, so that the addition rounds, as float64 does: to even.
    """
    return (x + 6755399441055744.0) - 6755399441055744.0


@triton.jit
def ordered(scores):
    """scores: float32 -> int32 in their order, of which -0.0 and 0.0 have one; see kernels/search/ordered.py."""
    bits = (scores + 0.0).to(tl.int32, bitcast=True)
    return tl.where(bits < 0, bits ^ 2147483647, bits)


@triton.jit
def key_of(scores, rows):
    """One int64 that orders by score, then by the smaller row; see kernels/search/ordered.py. scores: float32, rows:
    int64."""
    return (ordered(scores).to(tl.int64) << 32) | (2147483647 - rows)


@triton.jit
def popcount(words):
    """words: int64 -> int32, the bits that are set: sums of bits in fields of 2, 4, then 8 bits.

    Masks make the arithmetic shift of int64 a logical one.
    """
    x = words - ((words >> 1) & 0x5555555555555555)
    x = (x & 0x3333333333333333) + ((x >> 2) & 0x3333333333333333)
    x = (x + ((x >> 4) & 0x0FFFFFFFFFFFFFFF)) & 0x0F0F0F0F0F0F0F0F
    x = x + (x >> 8)
    x = x + (x >> 16)
    x = x + (x >> 32)
    return (x & 0x7F).to(tl.int32)


@triton.jit
def within(words, word, first, last):
    """The bits of words that stand for positions first to last - 1. word: int64 - which words these are."""
    begin = word * 64
    low = tl.minimum(tl.maximum(first - begin, 0), 64)
    high = tl.minimum(tl.maximum(last - begin, 0), 64)
    return words & below(high) & ~below(low)


@triton.jit
def below(bits):
    """A word whose lowest `bits` bits are set, 0 to 64."""
    one = bits * 0 + 1
    return tl.where(bits >= 64, -one, (one << tl.minimum(bits, 63)) - 1)


@triton.jit
def dots(
    left, row, asked, right, other, there,
    D: tl.constexpr, ROWS: tl.constexpr, OTHERS: tl.constexpr, BLOCK_D: tl.constexpr, WIDE: tl.constexpr,
    MASK: tl.constexpr,
):  # fmt: skip
    """[ROWS, OTHERS] int32, or int64 where WIDE: exact dots of Int8 rows of two tables, [.., D] each.

    row, other: int64 - which rows. asked, there: which of them exist. BLOCK_D: values at a time. MASK: the bits of
    `right` that count, -1 for all.
    """
    value = tl.arange(0, BLOCK_D)
    totals = tl.zeros([ROWS, OTHERS], tl.int64 if WIDE else tl.int32)
    for start in range(0, D, BLOCK_D):
        inside = start + value < D
        x = tl.load(
            left + (row * D + start)[:, None] + value[None, :], mask=asked[:, None] & inside[None, :], other=0
        )
        y = tl.load(
            right + (other * D + start)[:, None] + value[None, :],
            mask=there[:, None] & inside[None, :],
            other=0,
        )
        totals += tl.dot(x, tl.trans(y & MASK), out_dtype=tl.int32)
    return totals
