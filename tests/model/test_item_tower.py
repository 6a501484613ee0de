from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from meshfold.model.build import publish
from meshfold.model.data.catalog import Catalog, Column, no_vectors
from meshfold.model.errors import InvalidData
from meshfold.model.exports import export_item_tower
from meshfold.model.inputs import PAD, HashBuckets, hash_of
from meshfold.model.item_tower import ROWS, VALUES, ItemInputs, with_tower
from meshfold.model.program import load_program
from meshfold.model.schema import FieldKind
from meshfold.model.store import Store
from meshfold.model.types import Float32s

CatalogOf = Callable[..., Catalog]
D = 8


def normal(n: int) -> Float32s:
    return np.random.default_rng(n).standard_normal((n, D)).astype(np.float32)


def rows_of(catalog: Catalog) -> dict[str, list[list[float]]]:
    """What an item tower gets, less the rows that do not count."""
    rows: dict[str, list[list[float]]] = {}
    for real, inputs in ItemInputs(catalog).batches():
        for name, tensor in inputs.items():
            assert tensor.shape[0] == ROWS
            assert (tensor[real:] == tensor[real - 1]).all(), "the last item is repeated"
            rows.setdefault(name, []).extend(tensor[:real].reshape(real, -1).tolist())
    return rows


def padded(values: Sequence[float]) -> list[float]:
    return [*values, *[PAD] * VALUES][:VALUES]


@pytest.mark.parametrize("n", [1, 255, 256, 257, 600])
def test_every_kind_of_field_is_as_plain_python_has_it(catalog_of: CatalogOf, n: int) -> None:
    vectors = normal(n)
    catalog = catalog_of(vectors)
    ids = catalog.item_ids.tolist()
    assert rows_of(catalog) == {
        "item_ids": [[i] for i in ids],
        "language": [padded([hash_of(f"l{i % 5}")] if i % 7 else []) for i in ids],
        # Values of a field of many come in the order of their strings.
        "tags": [
            padded([hash_of(tag) for tag in sorted({f"t{i % 90}", f"t{i * i % 90}"})] if i % 7 != 1 else [])
            for i in ids
        ],
        "year": [padded([i * 31 % 101] if i % 7 != 2 else []) for i in ids],
        "groups": [padded(sorted({i % 3, -(i % 4)}) if i % 7 != 3 else []) for i in ids],
        "price": [[i / 8 if i % 7 != 4 else 0.0] for i in ids],
        "title": [padded([hash_of("title"), hash_of(str(i))] if i % 7 != 5 else []) for i in ids],
        "vector": vectors.tolist(),
    }


def test_more_values_than_enter_are_cut(catalog_of: CatalogOf) -> None:
    catalog = catalog_of(normal(3))
    groups = Column.of_integers(FieldKind.INTEGERS, [list(range(50)), [], [7]])
    words = " ".join(map(str, range(40)))
    catalog = replace(
        catalog, columns={**catalog.columns, "groups": groups}, texts={"title": [words, "", "One, TWO"]}
    )
    rows = rows_of(catalog)
    assert rows["groups"] == [list(range(VALUES)), padded([]), padded([7])]
    assert rows["title"][0] == [hash_of(str(i)) for i in range(VALUES)]
    assert rows["title"][1:] == [padded([]), padded([hash_of("one"), hash_of("two")])]


def test_numbers_beyond_float32_are_its_largest(catalog_of: CatalogOf) -> None:
    catalog = catalog_of(normal(3))
    price = Column.of_numbers(np.array([1e300, -1e300, 0.1]))
    rows = rows_of(replace(catalog, columns={**catalog.columns, "price": price}))
    largest = float(np.finfo(np.float32).max)
    assert rows["price"] == [[largest], [-largest], [float(np.float32(0.1))]]


def test_a_catalog_without_vectors_gives_none(catalog_of: CatalogOf) -> None:
    catalog = replace(catalog_of(normal(300), plain=True), vectors=no_vectors, dimension=0)
    assert list(rows_of(catalog)) == ["item_ids"]


@pytest.mark.parametrize("chunk", [1, 100, 255, 256, 257, 1000])
def test_the_chunks_of_the_vectors_do_not_matter(catalog_of: CatalogOf, chunk: int) -> None:
    vectors = normal(700)
    assert rows_of(catalog_of(vectors, plain=True, chunk=chunk))["vector"] == vectors.tolist()


@pytest.mark.parametrize("chunks", [[], [299], [256], [0, 0]])
def test_items_without_a_vector_are_refused(catalog_of: CatalogOf, chunks: list[int]) -> None:
    catalog = replace(catalog_of(normal(300)), vectors=lambda: iter([normal(n) for n in chunks]))
    with pytest.raises(InvalidData, match=f"300 items have {sum(chunks)} vectors; every item needs one"):
        list(ItemInputs(catalog).batches())


class Tower(nn.Module):
    """Reads fields of several kinds into [n, 6]."""

    def __init__(self, broken: int = -1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.buckets, self.table = HashBuckets(50), nn.Embedding(51, 5)
        self._broken = broken

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        words = torch.cat([inputs["language"], inputs["tags"], inputs["title"]], 1)
        named = self.table(self.buckets(words)).sum(1)
        out = torch.cat([named, inputs["price"] / 100 + inputs["vector"].mean(1, keepdim=True)], 1)
        return torch.where(inputs["item_ids"].unsqueeze(1) == self._broken, torch.nan, out)


def vectors_of(catalog: Catalog) -> Float32s:
    return np.concatenate(list(catalog.vectors()))


@pytest.mark.parametrize("n", [1, 256, 300])
def test_the_vectors_of_a_tower_are_those_of_its_module(catalog_of: CatalogOf, n: int) -> None:
    catalog = catalog_of(normal(n))
    tower = load_program(export_item_tower(Tower(), catalog), "x")
    made = with_tower(catalog, tower)
    assert (made.dimension, len(made)) == (6, n)
    with torch.no_grad():
        wanted = torch.cat([Tower()(inputs)[:real] for real, inputs in ItemInputs(catalog).batches()])
    assert vectors_of(made).tobytes() == wanted.numpy().tobytes()
    assert vectors_of(made).tobytes() == vectors_of(made).tobytes(), "they can be read again"


def test_an_items_vector_does_not_depend_on_its_company(catalog_of: CatalogOf) -> None:
    vectors = normal(300)
    catalog = catalog_of(vectors)
    tower = load_program(export_item_tower(Tower(), catalog), "x")
    whole = vectors_of(with_tower(catalog, tower))
    for first in (0, 7, 290):
        few = catalog_of(vectors[first:], catalog.item_ids[first:])
        assert vectors_of(with_tower(few, tower)).tobytes() == whole[first:].tobytes()


@pytest.mark.parametrize("place", [0, 255, 256, 299])
def test_nan_is_refused_when_it_is_built_and_names_the_item(
    catalog_of: CatalogOf, tmp_path: Path, place: int
) -> None:
    catalog = catalog_of(normal(300))
    broken = int(catalog.item_ids[place])
    made = with_tower(catalog, load_program(export_item_tower(Tower(broken), catalog), "x"))
    with pytest.raises(InvalidData, match=f"the vector of item {broken} holds NaN"):
        publish(made, Store(tmp_path))
    assert Store(tmp_path).published("shop") == []


class Gives(nn.Module):
    def __init__(self, out: object) -> None:
        super().__init__()
        self._out = out

    def forward(self, inputs: dict[str, Tensor]) -> object:
        return self._out


@pytest.mark.parametrize(
    ("out", "came"),
    [
        (torch.zeros(ROWS - 1, D), r"\[255, 8\] torch.float32"),
        (torch.zeros(ROWS), r"\[256\] torch.float32"),
        (torch.zeros(ROWS, 1, D), r"\[256, 1, 8\] torch.float32"),
        (torch.zeros(ROWS, 0), r"\[256, 0\] torch.float32"),
        (torch.zeros(ROWS, D).double(), r"\[256, 8\] torch.float64"),
        ((torch.zeros(ROWS, D),), "tuple"),
        (None, "NoneType"),
    ],
)
def test_a_tower_that_gives_no_vectors_is_refused(catalog_of: CatalogOf, out: object, came: str) -> None:
    with pytest.raises(InvalidData, match=rf"the item tower gave {came}; expected \[256, D\] float32"):
        with_tower(catalog_of(normal(3)), Gives(out))
