"""A snapshot with fields of every kind, as the services of a mesh open it, and what servers serve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from meshfold.compat.mesh.items import Items
from meshfold.model.build import publish
from meshfold.model.data.catalog import Catalog, Column
from meshfold.model.schema import Field, FieldKind, Schema
from meshfold.model.snapshot import Snapshot
from meshfold.model.store import Store
from tests.service.conftest import build_shop, publish_items, start, store

__all__ = ["build_shop", "folder", "items", "publish_items", "snapshot", "start", "store"]

ITEMS, D = 3000, 8
FIELDS = (
    Field("language", FieldKind.CATEGORY),
    Field("tags", FieldKind.CATEGORIES),
    Field("year", FieldKind.INTEGER),
    Field("groups", FieldKind.INTEGERS),
    Field("price", FieldKind.NUMBER),
)


def catalog() -> Catalog:
    """Ids 7, 10, 13, ... in no order; a seventh lacks each field. Every vector comes twice, so that there are ties."""
    rng = np.random.default_rng(0)
    ids = rng.permutation(ITEMS).astype(np.int64) * 3 + 7
    half = rng.standard_normal((ITEMS // 2, D)).astype(np.float32)
    columns = {
        "language": Column.of_strings(
            FieldKind.CATEGORY, [[f"l{i % 2}"] if i % 7 else [] for i in ids.tolist()]
        ),
        "tags": Column.of_strings(
            FieldKind.CATEGORIES,
            [[f"t{i % 900}", f"t{i * i % 5}"] if i % 7 != 1 else [] for i in ids.tolist()],
        ),
        "year": Column.of_integers(
            FieldKind.INTEGER, [[i * 31 % 101 - 50] if i % 7 != 2 else [] for i in ids.tolist()]
        ),
        "groups": Column.of_integers(
            FieldKind.INTEGERS, [[i % 3, -(i % 4)] if i % 7 != 3 else [] for i in ids.tolist()]
        ),
        "price": Column.of_numbers(np.where(ids % 7 != 4, (ids % 1000) / 8.0 - 30, np.nan)),
    }
    return Catalog(
        schema=Schema("shop", FIELDS, ("like", "watch")),
        item_ids=ids,
        columns=columns,
        vectors=lambda: iter([np.concatenate([half, half])]),
        dimension=D,
        popularity=(ids * 7919 % 1000).astype(np.float32),
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(catalog(), Store(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="session")
def snapshot(folder: Path) -> Snapshot:
    return Snapshot.open(folder)


@pytest.fixture(scope="session")
def items(snapshot: Snapshot) -> Items:
    return Items(snapshot)
