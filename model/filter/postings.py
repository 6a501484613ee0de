"""Posting lists of a snapshot: the positions of the items with a value, for values that are too rare for a plane.

A list takes 4 bytes an item, less than a row of the signature, and it is exact. The same values have Bloom rows, too,
which answer for one item or one bundle without a search in a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from meshfold.model.filter.index import FilterLayout
from meshfold.model.types import Int64s

Int32s = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Postings:
    """Posting lists as numpy arrays, in the form of PostingLists (kernels/filter/steps.py).

    fields: [F + 1] int64. values: [L] int64. offsets: [L + 1] int64. positions: [P] int32.
    """

    fields: Int64s
    values: Int64s
    offsets: Int64s
    positions: Int32s


def postings_of(layout: FilterLayout, columns: Sequence[tuple[Int64s, Int64s]]) -> Postings:
    """The posting lists of all fields with Bloom rows.

    columns: for each field (lengths: [N] int64, values: [sum(lengths)] int64) of items in the order of positions.
    """
    fields, values, sizes, positions = [0], [], [], []
    for rows, (lengths, own) in zip(layout.fields, columns, strict=True):
        if rows.bloom is not None:
            owners = np.repeat(np.arange(len(lengths)), lengths)
            hashed = rows.planes_of(own) < 0
            distinct, counts, items = _by_value(own[hashed], owners[hashed])
            values.append(distinct)
            sizes.append(counts)
            positions.append(items)
        fields.append(sum(map(len, values)))
    return Postings(
        np.array(fields, np.int64),
        np.concatenate([np.empty(0, np.int64), *values]),
        np.cumsum(np.concatenate([np.zeros(1, np.int64), *sizes])),
        np.concatenate([np.empty(0, np.int32), *positions]),
    )


def _by_value(values: Int64s, items: Int64s) -> tuple[Int64s, Int64s, Int32s]:
    """(the distinct values, ascending; the number of items of each; these items by value, ascending).

    values, items: [n] int64 - pairs of value and item, items ascending; pairs may repeat.
    """
    if not len(values):
        return values, values, items.astype(np.int32)
    low = int(values.min())
    if int(values.max()) - low <= np.iinfo(np.int32).max:
        ranks, distinct = values - low, None
    else:
        distinct, ranks = np.unique(values, return_inverse=True)
    # A stable sort keeps the items of a value in order; for int32 torch has a radix sort on all threads.
    ordered, places = torch.sort(torch.from_numpy(ranks.astype(np.int32)), stable=True)
    ranks, listed = ordered.numpy(), items.astype(np.int32)[places.numpy()]
    same = ranks[1:] == ranks[:-1]
    again = np.concatenate([np.zeros(1, bool), same & (listed[1:] == listed[:-1])])
    if again.any():
        ranks, listed = ranks[~again], listed[~again]
        same = ranks[1:] == ranks[:-1]
    first = np.flatnonzero(np.concatenate([np.ones(1, bool), ~same]))
    found = ranks[first].astype(np.int64)
    return found + low if distinct is None else distinct[found], np.diff(first, append=len(listed)), listed
