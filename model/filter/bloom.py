"""Bloom rows of a field: their number, the number of rows per value, and their false positives."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from meshfold.kernels.filter.bundles import ITEMS
from meshfold.model.types import Float64s, Int64s

MOST_HASHES = 8
# What rows cost is counted in rows that are stored, an eighth of a byte an item each. Reading one row more for each
# term is worth two bytes an item. So is one more item of a bundle that has to be checked in vain, where one in 50
# holds a value, for those have to be checked, too; it is worth up to four times as much where fewer hold one.
ROWS_PER_READ = 16
USUAL_RATE, MOST_WEIGHT = 0.02, 4.0


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """splitmix64's finaliser: each bit of the input moves each bit of the output."""
    x = x + np.uint64(0x9E37_79B9_7F4A_7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return x ^ (x >> np.uint64(31))


_SALTS = _mix(np.arange(1, MOST_HASHES + 1, dtype=np.uint64))
# Up to this, every number of rows a hash is tried; then steps of a thirty-second.
_EVERY_PART = 64


@dataclass(frozen=True)
class Bloom:
    """A value has a row in each of `hashes` blocks of `part` rows; formula in kernels/filter/sign.py. Raises ValueError
    where there are none, or more than MOST_HASHES of them."""

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
        """values: [n] int64 -> [n, hashes] int64, from the field's first Bloom row on."""
        upper = _mix(values.view(np.uint64)[:, None] ^ _SALTS[: self.hashes]) >> np.uint64(32)
        within = (upper * np.uint64(self.part) >> np.uint64(32)).view(np.int64)
        return within + np.arange(0, self.rows, self.part)


@dataclass(frozen=True, eq=False)
class Held:
    """How many values items hold in a field. values: [n] - a number of values, items: [n] - how many hold so many."""

    values: Float64s
    items: Float64s

    @classmethod
    def of(cls, lengths: Int64s) -> Held:
        """lengths: [N] int64 - values of each item."""
        values, items = np.unique(lengths, return_counts=True)
        return cls(values.astype(np.float64), items.astype(np.float64))


def false_positives(bloom: Bloom, held: Held) -> float:
    """The share of items without a value that are expected to have all of its rows.

    Of an item with v values each block has a given row with 1 - (1 - 1 / part)^v, and blocks are independent.
    """
    filled = 1.0 - (1.0 - 1.0 / bloom.part) ** held.values
    return float(held.items @ filled**bloom.hashes / held.items.sum())


def typical_pass_rate(counts: Int64s, items: int) -> float:
    """The share of items that hold a value, for the middle one of values drawn as often as items hold them.

    counts: how many items hold each value; there is one at least.
    """
    counts = np.sort(counts)
    so_far = np.cumsum(counts)
    return float(counts[np.searchsorted(so_far, so_far[-1] / 2)] / items)


def choose(held: Held, pass_rate: float) -> Bloom:
    """The cheapest to store, read and check, where so large a share of items holds a value that is asked for."""
    weight = min(max(USUAL_RATE / pass_rate, 1.0), MOST_WEIGHT)
    best, least = Bloom(1, 1), math.inf
    for hashes in range(1, MOST_HASHES + 1):
        part = 1
        while hashes * (part + ROWS_PER_READ) < least:
            bloom = Bloom(part, hashes)
            checked = weight * ITEMS * false_positives(bloom, held)
            cost = bloom.rows + ROWS_PER_READ * (hashes + checked)
            if cost < least:
                best, least = bloom, cost
            part += 1 if part < _EVERY_PART else part // 32
    return best
