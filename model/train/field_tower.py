"""The item tower that a training writes: vectors from fields, for items that nobody has met yet.

It is fitted to the vectors of items that were met, so that what it gives lies in their space: a ridge regression of
vectors on the values of fields. A vector is an offset plus, a field, the mean row of the item's known values.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn import functional

from meshfold.model.data.catalog import Catalog, no_vectors
from meshfold.model.inputs import PAD, Vocabulary
from meshfold.model.item_tower import GIVEN, ItemInputs
from meshfold.model.schema import FieldKind, Schema
from meshfold.model.types import Float32s, Float64s, Int64s

# Of a field: the most frequent values, held by so many items at least, and buckets where values are ordered.
MOST_VALUES, LEAST_ITEMS, BUCKETS = 4096, 3, 32
# Interactions that pull the row of a value towards zero; no more than this share of all. Chosen among 1, 10 and 50 on
# MovieLens.
REGULARIZATION, REGULARIZATION_SHARE = 50.0, 0.01
# Steps of conjugate gradients, after which nothing moves on MovieLens.
ITERATIONS = 80


class Values(nn.Module):
    """[n, L] int64 values -> [n, L] rows 1 .. V of the known ones, 0 for all others."""

    def __init__(self, values: Int64s) -> None:
        super().__init__()
        distinct, counts = np.unique(values, return_counts=True)
        frequent = np.argsort(-counts, kind="stable")[:MOST_VALUES]
        self.size = int((counts[frequent] >= LEAST_ITEMS).sum())
        self.covered = int(counts[frequent[: self.size]].sum())
        self.vocabulary = Vocabulary(distinct[frequent[: self.size]])

    def forward(self, values: Tensor) -> Tensor:
        rows: Tensor = self.vocabulary(values)
        return rows


class Buckets(nn.Module):
    """[n, L] numbers, or integers and PAD -> [n, 1] rows 1 .. B of the bucket that the first falls in; 0 for 0, as a
    missing number is."""

    edges: Tensor

    def __init__(self, values: Int64s | Float32s) -> None:
        super().__init__()
        numbers = values[values != 0].astype(np.float32)
        shares = np.linspace(0, 1, BUCKETS + 1)[1:-1]
        edges = np.unique(np.quantile(numbers, shares, method="lower")) if len(numbers) else np.zeros(1)
        self.size = len(edges) + 1 if len(numbers) else 0
        self.register_buffer("edges", torch.from_numpy(edges.astype(np.float32)))

    def forward(self, values: Tensor) -> Tensor:
        numbers = torch.where(values[:, :1] == PAD, 0, values[:, :1]).float()
        rows = torch.searchsorted(self.edges, numbers, right=True) + 1
        return torch.where((numbers == 0) | (self.size == 0), 0, rows)


class FieldTower(nn.Module):
    """[n, D] float32 from the inputs of an item tower (model/item_tower.py).

    table: [1 + values of all fields, D] float32, row 0 zeros. offset: [D] float32.
    """

    def __init__(self, parts: list[tuple[str, Values | Buckets]], dimension: int) -> None:
        super().__init__()
        self._names = [name for name, _ in parts]
        self.parts = nn.ModuleList(part for _, part in parts)
        sizes = [part.size for _, part in parts]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int).tolist()
        self.register_buffer("table", torch.zeros(1 + sum(sizes), dimension))
        self.register_buffer("offset", torch.zeros(dimension))

    table: Tensor
    offset: Tensor

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        out = self.offset.expand(inputs["item_ids"].shape[0], -1)
        for rows, weights in self.rows(inputs):
            out = out + (functional.embedding(rows, self.table) * weights.unsqueeze(-1)).sum(1)
        return out

    def rows(self, inputs: dict[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """A field at a time: (rows of the table, 0 for nothing: [n, L] int64; their weights: [n, L] float32)."""
        for name, part, start in zip(self._names, self.parts, self._starts, strict=False):
            found = part(inputs[name])
            known = found > 0
            weights = known / known.sum(1, keepdim=True).clamp(min=1)
            yield torch.where(known, found + start, 0), weights


def readable(schema: Schema) -> bool:
    """Whether a tower can read the fields: there are some, and none has the name of what every item tower gets."""
    names = {f.name for f in schema.fields}
    return bool(names) and not names & GIVEN


def fit_field_tower(catalog: Catalog, vectors: Float32s, met: Int64s) -> FieldTower:
    """vectors: [N, D] float32, in the order of the catalog. met: [N] int64 - interactions of each item.

    An item counts as often as it was met, so that a newcomer's vector is that of an item as people meet them: on
    MovieLens 500 newcomers of 9,742 movies take 5.1 % of the first 50 results, and had 4.9 % of the interactions.
    """
    plain = Catalog(
        catalog.schema, catalog.item_ids, catalog.columns, no_vectors, 0, catalog.texts, names=catalog.names
    )
    tower = FieldTower(_parts(plain), vectors.shape[1])
    matrix = _matrix(tower, plain)
    rows = np.flatnonzero(met > 0)
    solution = _ridge(matrix[rows], vectors[rows].astype(np.float64), met[rows].astype(np.float64))
    tower.offset.copy_(torch.from_numpy(solution[0]))
    tower.table[1:] = torch.from_numpy(solution[1:]).float()
    return tower


def _parts(catalog: Catalog) -> list[tuple[str, Values | Buckets]]:
    held: dict[str, list[Int64s | Float32s]] = {}
    for real, inputs in ItemInputs(catalog).batches():
        for f in catalog.schema.fields:
            values = inputs[f.name][:real].numpy().ravel()
            held.setdefault(f.name, []).append(values[values != PAD] if values.dtype == np.int64 else values)
    parts: list[tuple[str, Values | Buckets]] = []
    for f in catalog.schema.fields:
        values = np.concatenate(held[f.name])
        part: Values | Buckets = Buckets(values) if f.kind is FieldKind.NUMBER else Values(values)
        # Of integers that few items share their order tells more.
        if f.kind is FieldKind.INTEGER and isinstance(part, Values) and 2 * part.covered < len(values):
            part = Buckets(values)
        parts.append((f.name, part))
    return parts


def _matrix(tower: FieldTower, catalog: Catalog) -> csr_array:
    """[N, 1 + values] float64: ones, and the weight of each value of each item."""
    shape = (len(catalog), len(tower.table))
    ones = csr_array((np.ones(shape[0]), (np.arange(shape[0]), np.zeros(shape[0], np.int64))), shape=shape)
    items, columns, weights = [], [], []
    done = 0
    with torch.no_grad():
        for real, inputs in ItemInputs(catalog).batches():
            for found, weight in tower.rows(inputs):
                item, slot = np.nonzero(found[:real].numpy())
                items.append(item + done)
                columns.append(found.numpy()[item, slot])
                weights.append(weight.numpy()[item, slot].astype(np.float64))
            done += real
    entries = (np.concatenate(weights), (np.concatenate(items), np.concatenate(columns)))
    return ones + csr_array(entries, shape=shape)


def _ridge(x: csr_array, y: Float64s, weights: Float64s) -> Float64s:
    """[F, D] - the t of the least sum of weights * |x t - y|^2 plus a multiple of |t|^2, the first row free.

    Conjugate gradients, a column at a time in step with the others. Sparse products run on one thread: the bytes do
    not depend on how many there are.
    """
    weighted = csr_array(x * weights[:, None])
    right = weighted.T @ y
    diagonal = np.asarray(weighted.multiply(x).sum(0)).ravel()
    ridge = np.full(x.shape[1], min(REGULARIZATION, REGULARIZATION_SHARE * float(weights.sum())))
    ridge[0] = 1e-6
    scale = 1.0 / (diagonal + ridge)[:, None]
    t = np.zeros_like(right)
    rest = right - 0.0
    step = scale * rest
    power = (rest * step).sum(0)
    for _ in range(ITERATIONS):
        moved = weighted.T @ (x @ step) + ridge[:, None] * step
        length = power / np.maximum((step * moved).sum(0), 1e-300)
        t += length * step
        rest -= length * moved
        turned = scale * rest
        before, power = power, (rest * turned).sum(0)
        step = turned + power / np.maximum(before, 1e-300) * step
    return t
