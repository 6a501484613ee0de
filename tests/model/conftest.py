"""Catalogs and snapshots for the tests of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from meshfold.model.build import publish
from meshfold.model.data.catalog import Catalog, Column
from meshfold.model.data.generated import item_vectors
from meshfold.model.schema import Field, FieldKind, Schema
from meshfold.model.store import Store
from meshfold.model.types import Float32s, Int64s

FIELDS = (
    Field("title", FieldKind.TEXT),
    Field("language", FieldKind.CATEGORY),
    Field("tags", FieldKind.CATEGORIES),
    Field("year", FieldKind.INTEGER),
    Field("groups", FieldKind.INTEGERS),
    Field("price", FieldKind.NUMBER),
)


def columns_of(item_ids: Int64s) -> dict[str, Column]:
    """Values that follow from the ids, so that the order of items does not matter; a seventh lacks each."""
    ids = [int(i) for i in item_ids]
    return {
        "language": Column.of_strings(FieldKind.CATEGORY, [[f"l{i % 5}"] if i % 7 else [] for i in ids]),
        "tags": Column.of_strings(
            FieldKind.CATEGORIES, [[f"t{i % 90}", f"t{i * i % 90}"] if i % 7 != 1 else [] for i in ids]
        ),
        "year": Column.of_integers(FieldKind.INTEGER, [[i * 31 % 101] if i % 7 != 2 else [] for i in ids]),
        "groups": Column.of_integers(
            FieldKind.INTEGERS, [[i % 3, -(i % 4)] if i % 7 != 3 else [] for i in ids]
        ),
        "price": Column.of_numbers(np.array([i / 8 if i % 7 != 4 else np.nan for i in ids])),
    }


def catalog_of(
    vectors: Float32s,
    item_ids: Int64s | None = None,
    *,
    plain: bool = False,
    chunk: int = 1000,
    **schema: Any,
) -> Catalog:
    """A catalog of the vectors with fields of every kind, or none if plain; ids are 10, 13, 16, ..."""
    ids = np.arange(len(vectors), dtype=np.int64) * 3 + 10 if item_ids is None else item_ids
    fields = () if plain else FIELDS
    return Catalog(
        schema=Schema(**({"surface": "shop", "fields": fields, "tasks": ("like", "watch")} | schema)),
        item_ids=ids,
        columns={} if plain else columns_of(ids),
        vectors=lambda: iter([vectors[i : i + chunk] for i in range(0, len(vectors), chunk)]),
        dimension=vectors.shape[1],
        texts={} if plain else {"title": [f"title {i}" if i % 7 != 5 else "" for i in ids.tolist()]},
        popularity=(ids * 7919 % 1000).astype(np.float32),
    )


CatalogOf = Callable[..., Catalog]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for one another spin; on a machine with other work that takes ten times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(name="catalog_of", scope="session")
def catalog_of_fixture() -> CatalogOf:
    """(vectors: [N, D] float32, item_ids=None, plain=False, chunk=1000, **schema) -> a catalog."""
    return catalog_of


@pytest.fixture(scope="session")
def snapshot_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot of 700 items of the surface shop; not to be changed."""
    vectors = np.random.default_rng(0).standard_normal((700, 8)).astype(np.float32)
    return publish(catalog_of(vectors), Store(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="session")
def generated_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot of 20,000 generated items of 64 dimensions without fields; not to be changed."""
    vectors = np.concatenate(list(item_vectors(20_000, 64)))
    catalog = catalog_of(vectors, plain=True, tasks=("like",))
    return publish(catalog, Store(tmp_path_factory.mktemp("generated")))
