"""The item tower that a training writes: vectors from fields, for items without interactions.

The tower is a ridge regression of trained vectors on the values of fields, so that its vectors lie in the same space.
A vector is an offset plus, for each field, the mean row of the item's known values.
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

# Limits of a field: values kept (the most frequent), items that share a kept value at least, buckets of ordered values.
MOST_VALUES, LEAST_ITEMS, BUCKETS = 4096, 3, 32
# Ridge penalty in interactions, and its limit as a share of all interactions. Chosen among 1, 10 and 50 on MovieLens.
REGULARIZATION, REGULARIZATION_SHARE = 50.0, 0.01
# Steps of conjugate gradients; on MovieLens the solution has converged by then.
ITERATIONS = 80


class Values(nn.Module):
    """Rows of values: [n, L] int64 -> [n, L] rows 1 .. V of known values, 0 of unknown ones."""

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
    """Rows of buckets: [n, L] numbers, or integers and PAD -> [n, 1] rows 1 .. B of each item's first number.

    A missing number arrives as 0 and has row 0.
    """

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
    """A linear model: [n, D] float32 from the inputs of an item tower (model/item_tower.py).

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
        """Yields for each field (rows of the table, 0 for no value: [n, L] int64; their weights: [n, L] float32)."""
        for name, part, start in zip(self._names, self.parts, self._starts, strict=False):
            found = part(inputs[name])
            known = found > 0
            weights = known / known.sum(1, keepdim=True).clamp(min=1)
            yield torch.where(known, found + start, 0), weights


def readable(schema: Schema) -> bool:
    """Whether a tower can be written: there are fields, and none has the name of an input in GIVEN."""
    names = {f.name for f in schema.fields}
    return bool(names) and not names & GIVEN


def fit_field_tower(catalog: Catalog, vectors: Float32s, met: Int64s) -> FieldTower:
    """Fits a tower to trained vectors; the number of interactions of an item is its weight in the regression.

    vectors: [N, D] float32, in the order of the catalog. met: [N] int64 - interactions of each item. The weights give
    new items a fair share of results: on MovieLens, 500 of 9,742 movies with vectors from this tower take 5.1 % of the
    first 50 results; they have 4.9 % of the interactions.
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
    batches: dict[str, list[Int64s | Float32s]] = {}
    for real, inputs in ItemInputs(catalog).batches():
        for f in catalog.schema.fields:
            values = inputs[f.name][:real].numpy().ravel()
            values = values[values != PAD] if values.dtype == np.int64 else values
            batches.setdefault(f.name, []).append(values)
    parts: list[tuple[str, Values | Buckets]] = []
    for f in catalog.schema.fields:
        values = np.concatenate(batches[f.name])
        part: Values | Buckets = Buckets(values) if f.kind is FieldKind.NUMBER else Values(values)
        # Integers whose frequent values cover less than half of all go into buckets: their order has more information.
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
    """[F, D] - the t that minimises the sum of weights * |x t - y|^2 plus a ridge penalty on all rows but the first.

    Preconditioned conjugate gradients on all columns together. Sparse products run on one thread, so that the result
    does not depend on the number of threads.
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
