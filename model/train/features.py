"""Features of items for the item tower: values of fields as rows of one embedding table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from meshfold.model.data.catalog import Catalog
from meshfold.model.inputs import hash_of, tokens_of
from meshfold.model.schema import FieldKind
from meshfold.model.types import Float32s, Int64s

_MOST_VALUES = 4096  # values kept of a field, the most frequent ones
_LEAST_ITEMS = 3  # items that share a value, below which it is dropped
_BUCKETS = 32  # buckets of an ordered field
_MOST_A_FIELD = 8  # values kept of an item in one field


@dataclass(frozen=True, eq=False)
class ItemFeatures:
    """Rows of the embedding table for each item.

    size: rows of the table; row 0 means no value. ids: [N, L] int64 - rows. weights: [N, L] float32 - the reciprocal
    of the number of values that the item has in the field, 0 for no value.
    """

    size: int
    ids: Int64s
    weights: Float32s


def features_of(catalog: Catalog) -> ItemFeatures:
    """Frequent values of each field: categories, integers, words of texts, buckets of ordered fields."""
    n, size = len(catalog), 1
    # A first block without columns, for a catalog without fields.
    ids: list[Int64s] = [np.zeros((n, 0), np.int64)]
    weights: list[Float32s] = [np.zeros((n, 0), np.float32)]
    for f in catalog.schema.fields:
        if f.kind is FieldKind.TEXT:
            rows, values = _words(catalog.texts[f.name])
        else:
            column = catalog.columns[f.name]
            rows, values = np.repeat(np.arange(n), np.diff(column.offsets)), column.values
            if f.kind.ordered and len(values):
                edges = np.unique(np.quantile(values, np.linspace(0, 1, _BUCKETS + 1)[1:-1], method="lower"))
                values = np.searchsorted(edges, values, side="right")
        block, share, distinct = _block(rows, values, n)
        ids.append(np.where(share > 0, block + size, 0))
        weights.append(share)
        size += distinct
    return ItemFeatures(size, np.concatenate(ids, 1), np.concatenate(weights, 1))


def _words(texts: Sequence[str]) -> tuple[Int64s, Int64s]:
    """(rows, hashes of the words), each word of a text once."""
    rows: list[int] = []
    hashes: list[int] = []
    for row, text in enumerate(texts):
        for word in sorted(set(tokens_of(text))):
            rows.append(row)
            hashes.append(hash_of(word))
    return np.array(rows, np.int64), np.array(hashes, np.int64)


def _block(rows: Int64s, values: Int64s, n: int) -> tuple[Int64s, Float32s, int]:
    """([n, L] indices of kept values, [n, L] weights, number of kept values)."""
    distinct, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_MOST_VALUES]
    order = order[counts[order] >= _LEAST_ITEMS]
    rank = np.full(len(distinct), -1, np.int64)
    rank[order] = np.arange(len(order))
    kept = rank[codes]
    rows, kept = rows[kept >= 0], kept[kept >= 0]
    # The most frequent values of an item come first, for they have the most training data.
    by_item = np.lexsort((kept, rows))
    rows, kept = rows[by_item], kept[by_item]
    starts = np.searchsorted(rows, np.arange(n))
    slot = np.arange(len(rows)) - starts[rows]
    width = int(min(_MOST_A_FIELD, slot.max(initial=-1) + 1))
    ids, weights = np.zeros((n, width), np.int64), np.zeros((n, width), np.float32)
    inside = slot < width
    ids[rows[inside], slot[inside]] = kept[inside]
    value_counts = np.bincount(rows[inside], minlength=n)
    weights[rows[inside], slot[inside]] = (1.0 / value_counts[rows[inside]]).astype(np.float32)
    return ids, weights, len(order)
