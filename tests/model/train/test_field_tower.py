from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from meshfold.model.data.catalog import Catalog, Column, no_vectors
from meshfold.model.exports import export_item_tower
from meshfold.model.item_tower import with_tower
from meshfold.model.program import load_program
from meshfold.model.schema import Field, FieldKind, Schema
from meshfold.model.train.field_tower import Buckets, Values, fit_field_tower, readable
from meshfold.model.types import Float32s

N, D = 400, 4
SCHEMA = Schema(
    "shop",
    tuple(
        Field(name, kind)
        for name, kind in (
            ("colour", FieldKind.CATEGORY),
            ("tags", FieldKind.CATEGORIES),
            ("brand", FieldKind.INTEGER),
            ("stock", FieldKind.INTEGER),
            ("groups", FieldKind.INTEGERS),
            ("price", FieldKind.NUMBER),
            ("name", FieldKind.TEXT),
        )
    ),
    ("watch",),
)


def catalog_of(n: int = N, schema: Schema = SCHEMA) -> Catalog:
    rng = np.random.default_rng(n)
    columns = {
        "colour": Column.of_strings(FieldKind.CATEGORY, [[f"c{i % 3}"] if i % 5 else [] for i in range(n)]),
        "tags": Column.of_strings(FieldKind.CATEGORIES, [[f"t{i % 4}", f"t{i % 7}"] for i in range(n)]),
        "brand": Column.of_integers(FieldKind.INTEGER, [[i % 6 - 2] for i in range(n)]),
        "stock": Column.of_integers(FieldKind.INTEGER, [[i * 1009 % 100_003] for i in range(n)]),
        "groups": Column.of_integers(FieldKind.INTEGERS, [[i % 2, i % 9] for i in range(n)]),
        "price": Column.of_numbers(np.where(np.arange(n) % 11, rng.random(n) * 100, np.nan)),
    }
    names = {f.name for f in schema.fields}
    return Catalog(
        schema,
        np.arange(n, dtype=np.int64) * 3,
        {name: column for name, column in columns.items() if name in names},
        no_vectors,
        0,
        {"name": [f"item {('red', 'blue')[i % 2]}" for i in range(n)]} if "name" in names else {},
    )


def planted(catalog: Catalog) -> Float32s:
    """Vectors that follow from colour, brand and the words alone."""
    rng = np.random.default_rng(0)
    colours, brands, words = (rng.standard_normal((n, D)) for n in (4, 6, 2))
    places = np.arange(len(catalog))
    colour = np.where(places % 5, places % 3, 3)
    return (colours[colour] + brands[places % 6] + words[places % 2]).astype(np.float32)


def test_vectors_that_follow_from_fields_are_learned_and_hold_for_items_that_come_later() -> None:
    catalog = catalog_of(3 * N)
    vectors = planted(catalog)
    first = replace(
        catalog_of(),
        columns={name: column for name, column in catalog_of().columns.items()},
    )
    tower = fit_field_tower(first, vectors[:N], np.full(N, 50))
    made = with_tower(catalog, load_program(export_item_tower(tower, first), "item_tower.pt2"))
    found = np.concatenate(list(made.vectors()))
    error = np.square(found - vectors).sum() / np.square(vectors - vectors.mean(0)).sum()
    assert found.shape == (3 * N, D)
    assert error < 0.02


def test_items_that_nobody_met_teach_nothing() -> None:
    catalog = catalog_of()
    vectors, met = planted(catalog), np.full(N, 9)
    met[::2] = 0
    other = vectors.copy()
    other[::2] = 99.0
    one, two = fit_field_tower(catalog, vectors, met), fit_field_tower(catalog, other, met)
    assert torch.equal(one.table, two.table)
    assert torch.equal(one.offset, two.offset)


@pytest.mark.parametrize("kept", [{"colour"}, {"price"}, {"name"}, {"stock"}, {"tags", "groups"}])
def test_any_kind_of_field_alone_is_enough(kept: set[str]) -> None:
    schema = replace(SCHEMA, fields=tuple(f for f in SCHEMA.fields if f.name in kept))
    catalog = catalog_of(N, schema)
    tower = fit_field_tower(catalog, planted(catalog), np.full(N, 5))
    made = with_tower(catalog, load_program(export_item_tower(tower, catalog), "x"))
    found = np.concatenate(list(made.vectors()))
    assert found.shape == (N, D)
    assert np.isfinite(found).all()
    assert found.std(0).max() > 0


def test_fields_that_hold_nothing_give_every_item_the_mean() -> None:
    schema = Schema(
        "shop", (Field("colour", FieldKind.CATEGORY), Field("price", FieldKind.NUMBER)), ("watch",)
    )
    empty = Column.of_strings(FieldKind.CATEGORY, [()] * 5)
    columns = {"colour": empty, "price": Column.of_numbers(np.full(5, np.nan))}
    catalog = Catalog(schema, np.arange(5), columns, no_vectors, 0)
    vectors = np.arange(10, dtype=np.float32).reshape(5, 2)
    tower = fit_field_tower(catalog, vectors, np.ones(5, np.int64))
    made = with_tower(catalog, load_program(export_item_tower(tower, catalog), "x"))
    assert np.concatenate(list(made.vectors())) == pytest.approx(np.tile([4.0, 5.0], (5, 1)), abs=1e-3)


def test_values_that_few_items_share_and_missing_numbers_read_nothing() -> None:
    values = Values(np.array([7, 7, 7, 8, 8, 9, 9, 9, 9]))
    assert values(torch.tensor([[7, 8, 9, 5]])).tolist() == [[1, 0, 2, 0]]
    buckets = Buckets(np.array([1.0, 2.0, 3.0, 0.0, 4.0], np.float32))
    rows = buckets(torch.tensor([[0.0], [1.0], [2.5], [9.0], [-9.0]])).flatten().tolist()
    assert rows[0] == 0
    assert rows[4] < rows[2] < rows[3] <= buckets.size
    assert Buckets(np.zeros(3, np.float32))(torch.tensor([[0.0], [2.0]])).tolist() == [[0], [0]]


@pytest.mark.parametrize("name", ["vector", "item_ids"])
def test_a_field_named_as_what_every_tower_gets_has_no_tower(name: str) -> None:
    assert not readable(Schema("shop", (Field(name, FieldKind.INTEGER),), ("watch",)))
    assert not readable(Schema("shop", (), ("watch",)))
    assert readable(SCHEMA)
