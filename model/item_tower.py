"""Item vectors from an item tower, which reads tensors of items' fields, a fixed number of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from meshfold.model.data.catalog import Catalog, numbers_of_keys
from meshfold.model.errors import InvalidData
from meshfold.model.filter.index import take
from meshfold.model.inputs import PAD, hash_of, tokens_of
from meshfold.model.schema import FieldKind
from meshfold.model.types import Float32s, Int64s

# Rows of each call of an item tower.
ROWS = 256
# Limit of values of a field, and of words of a text, that a tower reads.
VALUES = 16
# Names of the inputs of every item tower besides fields.
GIVEN = frozenset({"item_ids", "vector"})
_LARGEST = float(np.finfo(np.float32).max)


class ItemInputs:
    """Inputs of an item tower, by name.

    item_ids: [n] int64. vector: [n, D] float32, where the data has vectors. Each field: a number is [n, 1] float32
    (0 where missing); other kinds are [n, VALUES] int64 - integers, or hashes of strings and words, padded with PAD.
    """

    def __init__(self, catalog: Catalog) -> None:
        taken = sorted(GIVEN.intersection(f.name for f in catalog.schema.fields))
        if taken:
            raise InvalidData(f"{taken[0]!r} is an input of every item tower; rename the field of that name")
        self._catalog = catalog
        self._hashes = {
            name: np.array([hash_of(word) for word in column.vocabulary], np.int64)
            for name, column in catalog.columns.items()
            if column.vocabulary is not None
        }

    def batches(self) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Yields (number of real rows, inputs of ROWS rows); the last batch is filled with copies of the last item."""
        n = len(self._catalog.item_ids)
        vectors = self._catalog.vectors() if self._catalog.dimension else None
        pending: list[Float32s] = []
        for start in range(0, n, ROWS):
            places = np.minimum(np.arange(start, start + ROWS), n - 1)
            inputs = self._at(places)
            real = min(ROWS, n - start)
            if vectors is not None:
                while sum(map(len, pending)) < real:
                    chunk = next(vectors, None)
                    if chunk is None:
                        given = start + sum(map(len, pending))
                        raise InvalidData(f"{n} items have {given} vectors; every item needs one")
                    pending.append(chunk)
                whole = np.concatenate(pending)
                rows, pending = whole[:real], [whole[real:]]
                inputs["vector"] = torch.from_numpy(rows[np.minimum(np.arange(ROWS), real - 1)])
            yield real, inputs

    def _at(self, places: Int64s) -> dict[str, Tensor]:
        inputs: dict[str, Tensor] = {"item_ids": torch.from_numpy(self._catalog.item_ids[places])}
        for f in self._catalog.schema.filterable:
            column = self._catalog.columns[f.name]
            lengths, values = take(column, places)
            if f.kind is FieldKind.NUMBER:
                numbers = np.zeros((len(places), 1), np.float32)
                numbers[lengths > 0, 0] = numbers_of_keys(values).clip(-_LARGEST, _LARGEST).astype(np.float32)
                inputs[f.name] = torch.from_numpy(numbers)
            else:
                hashed = self._hashes[f.name][values] if f.name in self._hashes else values
                inputs[f.name] = torch.from_numpy(_padded(lengths, hashed))
        for f in self._catalog.schema.shown:
            words = [[hash_of(w) for w in tokens_of(self._catalog.texts[f.name][p])] for p in places.tolist()]
            lengths = np.array([len(w) for w in words], np.int64)
            flat = np.array([h for w in words for h in w], np.int64)
            inputs[f.name] = torch.from_numpy(_padded(lengths, flat))
        return inputs


def with_tower(catalog: Catalog, tower: nn.Module) -> Catalog:
    """The catalog with the vectors of an item tower. Raises InvalidData for an output that is not [ROWS, D] float32."""
    with torch.inference_mode():
        _, inputs = next(ItemInputs(catalog).batches())
        dimension = _vectors(tower, inputs).shape[1]
    return replace(catalog, vectors=lambda: _tower_vectors(catalog, tower), dimension=dimension)


def _tower_vectors(catalog: Catalog, tower: nn.Module) -> Iterator[Float32s]:
    """Yields chunks [n, D] float32: the vectors of all items, in order."""
    with torch.inference_mode():
        for real, inputs in ItemInputs(catalog).batches():
            yield _vectors(tower, inputs)[:real]


def _vectors(tower: nn.Module, inputs: dict[str, Tensor]) -> Float32s:
    out = tower(inputs)
    if not isinstance(out, Tensor):
        raise InvalidData(f"the item tower gave {type(out).__name__}; expected [{ROWS}, D] float32")
    if out.dim() != 2 or out.shape[0] != ROWS or out.shape[1] == 0 or out.dtype != torch.float32:
        raise InvalidData(f"the item tower gave {list(out.shape)} {out.dtype}; expected [{ROWS}, D] float32")
    return out.numpy()


def _padded(lengths: Int64s, values: Int64s) -> Int64s:
    out = np.full((len(lengths), VALUES), PAD, np.int64)
    row = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(values)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    kept = place < VALUES
    out[row[kept], place[kept]] = values[kept]
    return out
