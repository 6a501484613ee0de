"""The catalog of the conformance suite, small enough to say by brute force what every answer must be.

Vectors of items and of queries are multiples of 1/128 whose largest is 127/128: the index holds them exactly and their
dots are exact in float32, so that ids, order and similarities are to be what they are here, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from meshfold.model.build import publish
from meshfold.model.data.catalog import Catalog, Column
from meshfold.model.exports import export_over_arch, export_user_tower
from meshfold.model.item_ids import keys_of_strings
from meshfold.model.schema import Field, FieldKind, IdKind, Input, InputKind, Schema
from meshfold.model.snapshot import OVER_ARCH, USER_TOWER
from meshfold.model.store import Store
from meshfold.model.types import Float32s, Float64s, Int64s
from meshfold.model.value.config import ValueConfig, Weight
from tests.data.towers.towers import Rank, User

N, D = 320, 16
TASKS = ("like", "watch")
SURFACE = "shop"
LEAST, MOST = -(2**63), 2**63 - 1
LANGUAGES = ("de", "en", "es")


@dataclass(frozen=True)
class Item:
    """One item. popularity: from 0 to 1. None and empty lists: the item lacks the field."""

    item_id: int
    vector: tuple[float, ...]
    popularity: float
    language: str | None
    tags: tuple[str, ...]
    year: int | None
    groups: tuple[int, ...]
    price: float | None


def exact_vectors(seed: int, count: int) -> Float32s:
    """[count, D] float32: multiples of 1/128 from -127/128 to 127/128, of which each vector holds one."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-126, 127, (count, D))
    vectors[np.arange(count), rng.integers(0, D, count)] = 127
    return (vectors / 128).astype(np.float32)


def _items() -> list[Item]:
    rng = np.random.default_rng(0)
    ids = [LEAST, *range(-4, 4), *(int(i) for i in rng.choice(10_000, N - 10, replace=False) + 10), MOST]
    vectors = exact_vectors(1, N)
    # Every eighth item is the twin of the one before, so that ties are common.
    vectors[1::8] = vectors[::8]
    items = []
    for place, item_id in enumerate(sorted(ids)):
        items.append(
            Item(
                item_id,
                tuple(vectors[place].tolist()),
                # Popularity has ties of its own.
                (place * 37 % 64) / 64,
                LANGUAGES[place % 3] if place % 7 else None,
                tuple(f"t{t}" for t in sorted({place % 11, place * place % 5})) if place % 6 else (),
                (1950 + place % 70) if place % 9 else None,
                tuple(sorted({place % 4, -(place % 3), LEAST if place % 50 == 0 else 9}))
                if place % 5
                else (),
                place / 8 if place % 10 else None,
            )
        )
    # The largest is 1: popularity is given as it is answered.
    items[5] = Item(**{**items[5].__dict__, "popularity": 1.0})
    return items


ITEMS = _items()
IDS: Int64s = np.array([item.item_id for item in ITEMS])
VECTORS: Float32s = np.array([item.vector for item in ITEMS], np.float32)
POPULARITY: Float32s = np.array([item.popularity for item in ITEMS], np.float32)

SCHEMA = Schema(
    SURFACE,
    (
        Field("title", FieldKind.TEXT),
        Field("language", FieldKind.CATEGORY),
        Field("tags", FieldKind.CATEGORIES),
        Field("year", FieldKind.INTEGER),
        Field("groups", FieldKind.INTEGERS),
        Field("price", FieldKind.NUMBER),
    ),
    TASKS,
    inputs=(
        Input("country", InputKind.STRINGS, 1),
        Input("search", InputKind.TEXT, 4),
        Input("ages", InputKind.INTS, 2),
        Input("clock", InputKind.FLOATS, 2),
    ),
)
VALUE = ValueConfig(
    {
        "mixed": "weights.like * like + watch",
        "cheap": "-price",
        "recent": "(has(year) ? year : 1900) + weights.age * features.hour",
    },
    default="mixed",
    weights={"like": Weight(0.5, 0.0, 2.0), "age": Weight(0.0, -1.0, 1.0)},
)


# Ids of the same items as strings, in the order of the integers: UUIDs, words, beyond ASCII and of many lengths.
KEYS = tuple(
    f"{place:03x}" + (f"-{place:029x}", f" wörter {place}", "\U0001f3ac", "", "x" * (place % 500))[place % 5]
    for place in range(N)
)


def publish_shop(store: Path, keys: tuple[str, ...] | None = None) -> Path:
    """The folder of a snapshot with a user tower, an OverArch and formulas. keys: ids in place of the integers."""
    catalog = Catalog(
        schema=SCHEMA if keys is None else replace(SCHEMA, ids=IdKind.STRINGS),
        item_ids=IDS if keys is None else keys_of_strings(keys),
        names=keys,
        columns={
            "language": Column.of_strings(
                FieldKind.CATEGORY, [[i.language] if i.language else [] for i in ITEMS]
            ),
            "tags": Column.of_strings(FieldKind.CATEGORIES, [i.tags for i in ITEMS]),
            "year": Column.of_integers(FieldKind.INTEGER, [[i.year] if i.year else [] for i in ITEMS]),
            "groups": Column.of_integers(FieldKind.INTEGERS, [i.groups for i in ITEMS]),
            "price": Column.of_numbers(np.array([np.nan if i.price is None else i.price for i in ITEMS])),
        },
        vectors=lambda: iter([VECTORS]),
        dimension=D,
        texts={"title": [f"title {i.item_id}" for i in ITEMS]},
        popularity=POPULARITY,
    )
    return publish(catalog, Store(store), programs=_programs(), value=VALUE)


@cache
def _programs() -> dict[str, Any]:
    return {
        USER_TOWER: export_user_tower(User(), SCHEMA, D),
        OVER_ARCH: export_over_arch(Rank(), SCHEMA, D),
    }


def similarities(queries: Sequence[Float32s]) -> Float64s:
    """[Q, N] float64, exact."""
    return np.stack(queries).astype(np.float64) @ VECTORS.astype(np.float64).T


def over_arch_scores(user_vectors: Float32s) -> Float32s:
    """[N, T] float32: what the published OverArch gives each item. user_vectors: [T, D]."""
    near = torch.from_numpy(similarities(list(user_vectors)).astype(np.float32))
    with torch.inference_mode():
        scores = Rank()(torch.from_numpy(user_vectors)[None], torch.from_numpy(VECTORS)[None], near[None])
    found: Float32s = scores[0].T.numpy()
    return found


def best_first(values: Any, eligible: Any, k: int) -> list[int]:
    """Places of the k best eligible items; ties go to the smaller id. values: [N], eligible: [N] bool."""
    places = [place for place in range(N) if eligible[place]]
    return sorted(places, key=lambda place: (-values[place], place))[:k]


def eligible(passes: Callable[[Item], bool], excluded: Sequence[int] = ()) -> list[bool]:
    left_out = set(excluded)
    return [passes(item) and item.item_id not in left_out for item in ITEMS]


# Filters as messages beside what they mean.
FILTERS: dict[str, tuple[dict[str, Any] | None, Callable[[Item], bool]]] = {
    "unset": (None, lambda i: True),
    "one string": ({"match": {"field": "language", "strings": ["en"]}}, lambda i: i.language == "en"),
    "any of strings": (
        {"match": {"field": "language", "strings": ["en", "es", "xx"]}},
        lambda i: i.language in ("en", "es"),
    ),
    "a string that no item has": ({"match": {"field": "language", "strings": ["xx"]}}, lambda i: False),
    "many strings": (
        {"match": {"field": "tags", "strings": ["t4", "t9"]}},
        lambda i: bool({"t4", "t9"} & {*i.tags}),
    ),
    "an int": ({"match": {"field": "year", "ints": [1960, -1]}}, lambda i: i.year == 1960),
    "many ints": (
        {"match": {"field": "groups", "ints": [LEAST, 3]}},
        lambda i: bool({LEAST, 3} & {*i.groups}),
    ),
    "ints of a number": ({"match": {"field": "price", "ints": [3]}}, lambda i: i.price == 3.0),
    "between, both included": (
        {"range": {"field": "year", "min": 1960, "max": 1970, "inclusive": True}},
        lambda i: i.year is not None and 1960 <= i.year <= 1970,
    ),
    "between, neither included": (
        {"range": {"field": "year", "min": 1960, "max": 1970}},
        lambda i: i.year is not None and 1960 < i.year < 1970,
    ),
    "from": (
        {"range": {"field": "price", "min": 10.125, "inclusive": True}},
        lambda i: i.price is not None and i.price >= 10.125,
    ),
    "up to": (
        {"range": {"field": "price", "max": 10.125}},
        lambda i: i.price is not None and i.price < 10.125,
    ),
    "between nothing": ({"range": {"field": "year", "min": 1970, "max": 1960}}, lambda i: False),
    "a range without bounds": ({"range": {"field": "price"}}, lambda i: i.price is not None),
    "exists": ({"exists": {"field": "tags"}}, lambda i: bool(i.tags)),
    "not": ({"not": {"match": {"field": "language", "strings": ["en"]}}}, lambda i: i.language != "en"),
    "not exists": ({"not": {"exists": {"field": "year"}}}, lambda i: i.year is None),
    "not not": ({"not": {"not": {"exists": {"field": "year"}}}}, lambda i: i.year is not None),
    "all of nothing": ({"all": {}}, lambda i: True),
    "any of nothing": ({"any": {}}, lambda i: False),
    "at least none": ({"at_least": {}}, lambda i: True),
    "more than there are": (
        {"at_least": {"count": 2, "filters": [{"exists": {"field": "year"}}]}},
        lambda i: False,
    ),
    "all": (
        {
            "all": {
                "filters": [
                    {"not": {"match": {"field": "tags", "strings": ["t3"]}}},
                    {"range": {"field": "year", "min": 1990, "inclusive": True}},
                ]
            }
        },
        lambda i: "t3" not in i.tags and i.year is not None and i.year >= 1990,
    ),
    "any": (
        {
            "any": {
                "filters": [
                    {"match": {"field": "language", "strings": ["de"]}},
                    {"match": {"field": "groups", "ints": [9]}},
                ]
            }
        },
        lambda i: i.language == "de" or 9 in i.groups,
    ),
    "at least two": (
        {
            "at_least": {
                "count": 2,
                "filters": [
                    {"match": {"field": "language", "strings": ["de"]}},
                    {"match": {"field": "groups", "ints": [9]}},
                    {"range": {"field": "price", "max": 20}},
                ],
            }
        },
        lambda i: (i.language == "de") + (9 in i.groups) + (i.price is not None and i.price < 20) >= 2,
    ),
}
