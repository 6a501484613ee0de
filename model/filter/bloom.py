"""Bloom rows of a field: the choice of their number and of hashes a value, and their false positives."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from meshfold.kernels.filter.bundles import ITEMS
from meshfold.model.types import Float64s, Int64s

MOST_HASHES = 8
# Costs are counted in stored rows, which take 1/8 byte an item each. ROWS_PER_READ: the cost of reading one more row
# for each term, 2 bytes an item. A false positive in each bundle costs the same where USUAL_RATE of items have a value.
# It costs more, up to MOST_WEIGHT times, where fewer items have one, for then false positives are most of the checks.
ROWS_PER_READ = 16
USUAL_RATE, MOST_WEIGHT = 0.02, 4.0


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """splitmix64's finaliser: each bit of the input affects each bit of the output."""
    x = x + np.uint64(0x9E37_79B9_7F4A_7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return x ^ (x >> np.uint64(31))


_SALTS = _mix(np.arange(1, MOST_HASHES + 1, dtype=np.uint64))
# Numbers of rows a hash below which each is tried; beyond, steps are 1/32 of the number.
_EVERY_PART = 64


@dataclass(frozen=True)
class Bloom:
    """`hashes` blocks of `part` rows, in each of which a value has one row (formula: kernels/filter/sign.py).

    Raises ValueError for less than 1 row, and for less than 1 or more than MOST_HASHES hashes.
    """

    part: int
    hashes: int

    def __post_init__(self) -> None:
        if not (self.part >= 1 and 1 <= self.hashes <= MOST_HASHES):
            raise ValueError(
                f"a field needs 1 to {MOST_HASHES} hashes of 1 row at least, got {self.hashes} of {self.part}"
            )

    @property
    def rows(self) -> int:
        return self.part * self.hashes

    def rows_of(self, values: Int64s) -> Int64s:
        """[n, hashes] int64 - rows of values, counted from the field's first Bloom row. values: [n] int64."""
        upper = _mix(values.view(np.uint64)[:, None] ^ _SALTS[: self.hashes]) >> np.uint64(32)
        within = (upper * np.uint64(self.part) >> np.uint64(32)).view(np.int64)
        return within + np.arange(0, self.rows, self.part)


@dataclass(frozen=True, eq=False)
class ValuesPerItem:
    """The distribution of items' numbers of values. values: [n] - numbers of values. items: [n] - items with each."""

    values: Float64s
    items: Float64s

    @classmethod
    def of(cls, lengths: Int64s) -> ValuesPerItem:
        """lengths: [N] int64 - number of values of each item."""
        values, items = np.unique(lengths, return_counts=True)
        return cls(values.astype(np.float64), items.astype(np.float64))


def false_positives(bloom: Bloom, per_item: ValuesPerItem) -> float:
    """The expected share of items that have all rows of a value without having the value.

    For an item with v values, the probability of a given row in a block is 1 - (1 - 1 / part)^v; blocks are
    independent.
    """
    filled = 1.0 - (1.0 - 1.0 / bloom.part) ** per_item.values
    return float(per_item.items @ filled**bloom.hashes / per_item.items.sum())


def typical_pass_rate(counts: Int64s, items: int) -> float:
    """The share of items with a typical value: the median of values, each weighted by its number of items.

    counts: [V] - number of items of each value, V at least 1.
    """
    counts = np.sort(counts)
    so_far = np.cumsum(counts)
    return float(counts[np.searchsorted(so_far, so_far[-1] / 2)] / items)


def choose(per_item: ValuesPerItem, pass_rate: float) -> Bloom:
    """The Bloom with the least cost of storage, reads and checks. pass_rate: share of items with a requested value."""
    weight = min(max(USUAL_RATE / pass_rate, 1.0), MOST_WEIGHT)
    best, least = Bloom(1, 1), math.inf
    for hashes in range(1, MOST_HASHES + 1):
        part = 1
        while hashes * (part + ROWS_PER_READ) < least:
            bloom = Bloom(part, hashes)
            checked = weight * ITEMS * false_positives(bloom, per_item)
            cost = bloom.rows + ROWS_PER_READ * (hashes + checked)
            if cost < least:
                best, least = bloom, cost
            part += 1 if part < _EVERY_PART else part // 32
    return best
