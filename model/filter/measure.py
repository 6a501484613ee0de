"""Measurement of a snapshot's Bloom rows (false positives, cost of other numbers of rows) and posting lists."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from meshfold.kernels.filter.bundles import ITEMS, WORDS
from meshfold.kernels.filter.steps import PostingLists
from meshfold.model.filter.bloom import Bloom, ValuesPerItem, false_positives, typical_pass_rate
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
    """The measured Bloom rows of one field.

    chosen: the rows of the snapshot. typical_pass_rate: the share of items with a typical value (bloom.py). values,
    items: sizes of the samples. measured: share of false positives among sampled items without a sampled value.
    others: widths with the same number of hashes and OTHER_WIDTHS times the rows, ascending.
    """

    chosen: Width
    typical_pass_rate: float
    values: int
    items: int
    measured: float
    others: tuple[Width, ...]


@dataclass(frozen=True)
class Listed:
    """The posting lists of one field. longest: number of items in the longest list."""

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
    """Measures a field with Bloom rows. signature, column, offsets: see kernels/filter/steps.py.

    Samples are taken at even distances, so that equal snapshots give equal measurements. Raises ValueError for a field
    without Bloom rows.
    """
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

    queried = values[hashed]
    queried = queried[_even(len(queried), SAMPLED_VALUES)]
    bundles = _even(len(words), SAMPLED_BUNDLES)
    items = (bundles[:, None] * ITEMS + np.arange(ITEMS)).ravel()
    items = items[items < n]
    lengths = ends[items + 1] - ends[items]
    owners = np.repeat(np.arange(len(items)), lengths)
    own_values = values[
        np.arange(lengths.sum()) + np.repeat(ends[items] - np.cumsum(lengths) + lengths, lengths)
    ]
    sampled = words[bundles]
    false_hits = true_hits = 0
    for value, rows in zip(queried, layout.value_rows(field, queried)[0], strict=True):
        passes = _members(np.bitwise_and.reduce(sampled[:, rows], axis=1))[: len(items)]
        has_value = np.zeros(len(items), bool)
        has_value[owners[own_values == value]] = True
        false_hits += int((passes & ~has_value).sum())
        true_hits += int(has_value.sum())
    others = len(queried) * len(items) - true_hits
    so_far = np.concatenate([np.zeros(1, np.int64), np.cumsum(hashed)])
    per_item = ValuesPerItem.of(so_far[ends[1:]] - so_far[ends[:-1]])

    def width(of: Bloom) -> Width:
        stored = len(words) * of.rows * WORDS * 8
        return Width(of.rows, of.hashes, stored / n, stored, false_positives(of, per_item))

    return Signed(
        chosen=width(bloom),
        typical_pass_rate=typical_pass_rate(value_counts(values[hashed])[1], n),
        values=len(queried),
        items=len(items),
        measured=false_hits / others if others else 0.0,
        others=tuple(width(Bloom(max(1, round(bloom.part * times)), bloom.hashes)) for times in OTHER_WIDTHS),
    )


def _even(size: int, most: int) -> Int64s:
    """`most` places of 0 to size - 1 at even distances, or all of them where there are fewer."""
    count = min(size, most)
    return (2 * np.arange(count) + 1) * size // (2 * max(count, 1))


def _members(words: npt.NDArray[np.int64]) -> Bools:
    """The bits of a row of the signature: [512 G] bool. words: [G, 8] int64."""
    return np.unpackbits(np.ascontiguousarray(words).view(np.uint8).ravel(), bitorder="little").astype(bool)
