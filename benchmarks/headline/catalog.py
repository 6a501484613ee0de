"""The catalog of the headline: generated item vectors and six fields, and filters over all of them."""

from __future__ import annotations

import numpy as np

from meshfold.model.data.catalog import Catalog, Column, number_keys
from meshfold.model.data.generated import item_vectors
from meshfold.model.filter.expression import All, Expression, Match, Not, Range
from meshfold.model.schema import Field, FieldKind, Schema
from meshfold.model.types import Int64s

SURFACE = "headline"
TASKS = ("watch", "like")
LANGUAGES, COUNTRIES, TAGS = 20, 60, 5000
_FREQUENT_TAGS = 200
FIRST_YEAR, LAST_YEAR = 1950, 2025
MOST_MINUTES, MOST_PRICE = 240, 100.0
# Conditions of a filter: as many each time from the least to the most, so that the mean is 7.
LEAST_CONDITIONS, MOST_CONDITIONS = 6, 8

_FIELDS = (
    Field("language", FieldKind.CATEGORY),
    Field("country", FieldKind.CATEGORY),
    Field("tags", FieldKind.CATEGORIES),
    Field("year", FieldKind.INTEGER),
    Field("minutes", FieldKind.INTEGER),
    Field("price", FieldKind.NUMBER),
)


def catalog_of(items: int, dimension: int) -> Catalog:
    """Equal arguments give equal catalogs."""
    random = np.random.default_rng(0)
    single = np.arange(items + 1)
    columns = {
        "language": _category(random, items, LANGUAGES, "l"),
        "country": _category(random, items, COUNTRIES, "c"),
        "tags": tags_of(random, items),
        "year": Column(FieldKind.INTEGER, single, random.integers(FIRST_YEAR, LAST_YEAR + 1, items)),
        "minutes": Column(FieldKind.INTEGER, single, random.integers(1, MOST_MINUTES + 1, items)),
        "price": Column(FieldKind.NUMBER, single, number_keys(random.uniform(0.0, MOST_PRICE, items))),
    }
    schema = Schema(SURFACE, _FIELDS, TASKS, generated=True)
    return Catalog(schema, np.arange(items), columns, lambda: item_vectors(items, dimension), dimension)


def filter_of(random: np.random.Generator) -> tuple[Expression, int]:
    """A filter over all six fields, and how many conditions it has. Half of the items or a few in a hundred pass."""
    language = Match("language", strings=_some(random, "l", LANGUAGES, 12))
    country = Match("country", strings=_some(random, "c", COUNTRIES, 45))
    tag = Not(Match("tags", strings=_tag_names(random, 1)))
    year = Range("year", minimum=float(random.integers(FIRST_YEAR, 1985)), inclusive=True)
    minutes = Range("minutes", maximum=float(random.integers(150, MOST_MINUTES)), inclusive=True)
    price = Range("price", maximum=float(random.uniform(60.0, MOST_PRICE)), inclusive=True)
    other_tags = Not(Match("tags", strings=_tag_names(random, 2)))
    least_minutes = Range("minutes", minimum=float(random.integers(1, 40)), inclusive=True)
    least_price = Range("price", minimum=float(random.uniform(0.0, 10.0)), inclusive=True)
    every_field: list[Expression] = [language, country, tag, year, minutes, price]
    more: list[Expression] = [other_tags, least_minutes, least_price]
    conditions = int(random.integers(LEAST_CONDITIONS, MOST_CONDITIONS + 1))
    added = random.permutation(len(more))[: conditions - len(every_field)]
    chosen = every_field + [more[place] for place in added]
    return All(tuple(chosen[place] for place in random.permutation(conditions))), conditions


def _category(random: np.random.Generator, items: int, values: int, prefix: str) -> Column:
    """One value an item, the first ones more often."""
    shares = 1.0 / (np.arange(values) + 2.0)
    codes = random.choice(values, items, p=shares / shares.sum()).astype(np.int64)
    return Column(FieldKind.CATEGORY, np.arange(items + 1), codes, _names(prefix, values, 2))


def tags_of(random: np.random.Generator, items: int) -> Column:
    """None to seven an item, of a long tail."""
    owners = np.repeat(np.arange(items), random.integers(0, 8, items))
    drawn = np.unique(owners * TAGS + random.zipf(1.3, len(owners)).clip(max=TAGS) - 1)
    held = np.bincount(drawn // TAGS, minlength=items)
    offsets: Int64s = np.concatenate([[0], np.cumsum(held)])
    return Column(FieldKind.CATEGORIES, offsets, drawn % TAGS, _names("t", TAGS, 4))


def _names(prefix: str, values: int, digits: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{value:0{digits}}" for value in range(values))


def _some(random: np.random.Generator, prefix: str, values: int, most: int) -> tuple[str, ...]:
    """Values of a category: between a third of the most and the most, in order."""
    chosen = random.choice(values, int(random.integers(most // 3, most + 1)), replace=False)
    return tuple(_names(prefix, values, 2)[code] for code in sorted(chosen.tolist()))


def _tag_names(random: np.random.Generator, count: int) -> tuple[str, ...]:
    """Names of frequent tags."""
    chosen = random.choice(_FREQUENT_TAGS, count, replace=False)
    return tuple(f"t{code:04}" for code in sorted(chosen.tolist()))
