"""Measures the false positives of a snapshot's Bloom rows, the cost of other numbers of rows, and posting lists."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from meshfold.kernels.filter.bundles import ITEMS, WORDS
from meshfold.kernels.filter.steps import PostingLists
from meshfold.model.filter.bloom import Bloom, Held, false_positives, typical_pass_rate
from meshfold.model.filter.index import Bools, FilterLayout, value_counts
from meshfold.model.types import Int64s

# Sampled values of each field, and sampled bundles of items.
SAMPLED_VALUES = 256
SAMPLED_BUNDLES = 64
OTHER_WIDTHS = (0.5, 0.75, 1.5, 2.0)


@dataclass(frozen=True)
class Width:
    """A number of Bloom rows, with their memory and expected share of false positives."""

    rows: int
    hashes: int
    bytes_per_item: float
    bytes: int
    expected: float


@dataclass(frozen=True)
class Signed:
    """The Bloom rows of one field, and the values that are hashed to them.

    typical_pass_rate: the share of items that hold a value, for the middle one of values drawn as often as items
    hold them. values, items: how many were asked for, and looked at. measured: of looked-at items that do not
    hold an asked value, the share that its rows let through. others: of other numbers of rows for as many hashes,
    ascending.
    """

    chosen: Width
    typical_pass_rate: float
    values: int
    items: int
    measured: float
    others: tuple[Width, ...]


@dataclass(frozen=True)
class Listed:
    """The posting lists of one field. longest: items of the longest."""

    lists: int
    longest: int
    bytes: int
    bytes_per_item: float


def price_lists(lists: PostingLists, field: int, items: int) -> Listed:
    """The memory of a field's posting lists: 4 bytes per position, 16 per list."""
    first, last = lists.fields[field : field + 2].tolist()
    offsets = lists.offsets[first : last + 1]
    stored = 4 * int(offsets[-1] - offsets[0]) + 16 * (last - first)
    longest = int(offsets.diff().max()) if last > first else 0
    return Listed(last - first, longest, stored, stored / items)


def measure_field(
    layout: FilterLayout, field: int, signature: Tensor, column: Tensor, offsets: Tensor
) -> Signed:
    """Measures a field with Bloom rows; tensors as kernels/filter/steps.py describes them. Draws evenly, so that
    equal snapshots measure alike."""
    bloom = layout.fields[field].bloom
    if bloom is None:
        raise ValueError(f"field {field} has no Bloom rows")
    words, values = signature.numpy(), column.numpy().astype(np.int64)
    if offsets.numel():
        ends: Int64s = offsets.numpy()
    else:
        present = _members(words[:, field])[: len(values)]
        ends, values = np.concatenate([np.zeros(1, np.int64), np.cumsum(present)]), values[present]
    n = len(ends) - 1
    hashed = layout.fields[field].planes_of(values) < 0

    asked = values[hashed]
    asked = asked[_even(len(asked), SAMPLED_VALUES)]
    bundles = _even(len(words), SAMPLED_BUNDLES)
    looked_at = (bundles[:, None] * ITEMS + np.arange(ITEMS)).ravel()
    looked_at = looked_at[looked_at < n]
    own = ends[looked_at + 1] - ends[looked_at]
    owners = np.repeat(np.arange(len(looked_at)), own)
    held_values = values[np.arange(own.sum()) + np.repeat(ends[looked_at] - np.cumsum(own) + own, own)]
    sampled = words[bundles]
    lies = holders = 0
    for value, rows in zip(asked, layout.value_rows(field, asked)[0], strict=True):
        let_through = _members(np.bitwise_and.reduce(sampled[:, rows], axis=1))[: len(looked_at)]
        holds = np.zeros(len(looked_at), bool)
        holds[owners[held_values == value]] = True
        lies += int((let_through & ~holds).sum())
        holders += int(holds.sum())
    others = len(asked) * len(looked_at) - holders
    so_far = np.concatenate([np.zeros(1, np.int64), np.cumsum(hashed)])
    held = Held.of(so_far[ends[1:]] - so_far[ends[:-1]])

    def width(of: Bloom) -> Width:
        stored = len(words) * of.rows * WORDS * 8
        return Width(of.rows, of.hashes, stored / n, stored, false_positives(of, held))

    return Signed(
        chosen=width(bloom),
        typical_pass_rate=typical_pass_rate(value_counts(values[hashed])[1], n),
        values=len(asked),
        items=len(looked_at),
        measured=lies / others if others else 0.0,
        others=tuple(width(Bloom(max(1, round(bloom.part * times)), bloom.hashes)) for times in OTHER_WIDTHS),
    )


def _even(size: int, most: int) -> Int64s:
    """Places at even distances: at most so many of 0 to size - 1."""
    count = min(size, most)
    return (2 * np.arange(count) + 1) * size // (2 * max(count, 1))


def _members(words: npt.NDArray[np.int64]) -> Bools:
    """words: [G, 8] int64 -> [512 G] bool."""
    return np.unpackbits(np.ascontiguousarray(words).view(np.uint8).ravel(), bitorder="little").astype(bool)
