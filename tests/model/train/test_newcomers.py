"""A model's vectors on a catalog that has changed: 200 items of four colours, users who keep to one colour."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from meshfold.model.data.catalog import Catalog, Column, no_vectors
from meshfold.model.data.interactions import Interactions
from meshfold.model.data.vector_file import write_vectors
from meshfold.model.errors import InvalidData
from meshfold.model.exports import export_item_tower
from meshfold.model.inputs import hash_of
from meshfold.model.schema import Field, FieldKind, IdKind, Schema
from meshfold.model.snapshot import ITEM_TOWER
from meshfold.model.train.field_tower import fit_field_tower
from meshfold.model.train.model_folder import VECTORS
from meshfold.model.train.newcomers import Joined, part_of, with_model
from meshfold.model.types import Float32s, Int64s
from meshfold.model.vectors import factorize

N, USERS, COLOURS, D = 200, 80, 4, 6
SCHEMA = Schema("shop", (Field("colour", FieldKind.CATEGORY), Field("name", FieldKind.TEXT)), ("watch",))


def catalog_of(
    places: Int64s, colours: dict[int, int | None] | None = None, strings: bool = False
) -> Catalog:
    """Item p has the id 10 p, or "item-p", and the colour p % COLOURS unless `colours` says another, or none."""
    told = [(colours or {}).get(p, p % COLOURS) for p in places.tolist()]
    names = [f"item-{p}" for p in places.tolist()]
    return Catalog(
        replace(SCHEMA, ids=IdKind.STRINGS) if strings else SCHEMA,
        np.array([hash_of(name) for name in names], np.int64) if strings else places * 10,
        {"colour": Column.of_strings(FieldKind.CATEGORY, [[f"c{c}"] if c is not None else [] for c in told])},
        no_vectors,
        0,
        {"name": ["thing"] * len(places)},
        names=names if strings else None,
    )


def interactions_of(catalog: Catalog, extra: list[tuple[int, int]] | None = None) -> Interactions:
    """Each user meets 12 items of one colour, and `extra`: (user, place)."""
    rng = np.random.default_rng(0)
    pairs = [
        (user, int(p) * COLOURS + user % COLOURS)
        for user in range(USERS)
        for p in rng.choice(N // COLOURS, 12, replace=False)
    ]
    pairs += extra or []
    users, places = np.array(pairs, np.int64).T
    ids = places * 10
    if catalog.names is not None:
        ids = np.array([hash_of(f"item-{p}") for p in places.tolist()], np.int64)
    m = len(pairs)
    return Interactions(users, ids, np.arange(m), {"watch": np.ones(m, bool)})


def model_of(catalog: Catalog, folder: Path, tower: bool = True) -> Path:
    interactions = interactions_of(catalog)
    vectors = factorize(interactions, catalog.item_ids, D)
    write_vectors(folder / VECTORS, catalog.ids, [vectors], vectors.shape[1])
    if tower:
        met = interactions.popularity(catalog.item_ids).astype(np.int64)
        (folder / ITEM_TOWER).write_bytes(export_item_tower(fit_field_tower(catalog, vectors, met), catalog))
    return folder


def vectors_of(joined: Joined) -> Float32s:
    return np.concatenate(list(joined.catalog.vectors()))


def nearest_colour(vector: Float32s, vectors: Float32s) -> int:
    """The colour whose items of the model have the largest mean dot product with a vector."""
    means = [vectors[np.arange(N) % COLOURS == c].mean(0) for c in range(COLOURS)]
    return int(np.argmax([vector @ mean / np.linalg.norm(mean) for mean in means]))


@pytest.mark.parametrize("strings", [False, True])
def test_newcomers_lie_with_their_colour_and_items_that_left_are_dropped(
    tmp_path: Path, strings: bool
) -> None:
    old = catalog_of(np.arange(N), strings=strings)
    model = model_of(old, tmp_path)
    was = vectors_of(with_model(old, None, model))
    places = np.arange(8, N + 20)
    now = catalog_of(places, strings=strings)
    joined = with_model(now, interactions_of(now), model)
    assert (joined.newcomers, joined.met, joined.left) == (20, 0, 8)
    assert joined.catalog.items_without_vector == 0
    vectors = vectors_of(joined)
    assert vectors[: N - 8].tobytes() == was[8:].tobytes(), "the model's items keep their vectors"
    for place in range(N, N + 20):
        assert nearest_colour(vectors[place - 8], was) == place % COLOURS
    lengths = np.linalg.norm(was, axis=1)
    assert lengths.min() / 2 < np.linalg.norm(vectors[-20:], axis=1).mean() < lengths.max()


def test_interactions_tell_of_a_newcomer_what_its_fields_do_not(tmp_path: Path) -> None:
    old = catalog_of(np.arange(N))
    model = model_of(old, tmp_path)
    was = vectors_of(with_model(old, None, model))
    # The first has no colour, the second one that its users do not keep to, the third has no users.
    now = catalog_of(np.arange(N + 3), {N: None, N + 1: 0, N + 2: 1})
    extra = [(user, N + k) for k in (0, 1) for user in range(2, USERS, COLOURS)]
    joined = with_model(now, interactions_of(now, extra), model)
    assert (joined.newcomers, joined.met, joined.left) == (3, 2, 0)
    vectors = vectors_of(joined)
    assert [nearest_colour(v, was) for v in vectors[-3:]] == [2, 2, 1]


def test_the_more_interactions_the_more_they_tell(tmp_path: Path) -> None:
    old = catalog_of(np.arange(N))
    model = model_of(old, tmp_path)
    now = catalog_of(np.arange(N + 1), {N: 0})
    by_fields = vectors_of(with_model(now, interactions_of(now), model))[-1]
    distances = [
        float(np.linalg.norm(vectors_of(with_model(now, interactions_of(now, extra), model))[-1] - by_fields))
        for extra in ([(user, N) for user in range(2, 2 + 4 * k, COLOURS)] for k in (1, 3, 15))
    ]
    assert 0 < distances[0] < distances[1] < distances[2]


def test_without_a_tower_interactions_alone_tell_and_the_rest_get_zeros(tmp_path: Path) -> None:
    model = model_of(catalog_of(np.arange(N)), tmp_path, tower=False)
    now = catalog_of(np.arange(N + 2))
    joined = with_model(now, interactions_of(now, [(user, N) for user in range(0, 40, COLOURS)]), model)
    assert (joined.newcomers, joined.met, joined.catalog.items_without_vector) == (2, 1, 1)
    vectors = vectors_of(joined)
    assert vectors[-2].any()
    assert not vectors[-1].any()


def test_a_catalog_that_did_not_change_is_as_the_model_has_it(tmp_path: Path) -> None:
    old = catalog_of(np.arange(N))
    model = model_of(old, tmp_path)
    turned = part_of(old, np.arange(N)[::-1])
    joined = with_model(turned, interactions_of(old), model)
    assert (joined.newcomers, joined.met, joined.left) == (0, 0, 0)
    assert vectors_of(joined)[::-1].tobytes() == vectors_of(with_model(old, None, model)).tobytes()


def test_a_model_of_other_items_is_refused(tmp_path: Path) -> None:
    model = model_of(catalog_of(np.arange(N)), tmp_path)
    with pytest.raises(
        InvalidData, match=r"none of its 200 items is in the catalog of 5; name the model of this"
    ):
        with_model(catalog_of(np.arange(N, N + 5)), None, model)


def test_a_tower_of_another_dimension_is_refused(tmp_path: Path) -> None:
    old = catalog_of(np.arange(N))
    model = model_of(old, tmp_path)
    wide = np.ones((N, D + 1), np.float32)
    (model / ITEM_TOWER).write_bytes(export_item_tower(fit_field_tower(old, wide, np.ones(N, np.int64)), old))
    with pytest.raises(InvalidData, match="gives vectors of 7 numbers, the model's have 6; train again"):
        with_model(catalog_of(np.arange(N + 1)), None, model)
