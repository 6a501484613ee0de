from __future__ import annotations

import numpy as np
import pytest

from meshfold.model.build import publish
from meshfold.model.data.catalog import Catalog, Column
from meshfold.model.filter.program import FilterCompiler
from meshfold.model.filter.text import parse_filter
from meshfold.model.filter.unmatched import UnmatchedParts, nearest_word
from meshfold.model.schema import Field, FieldKind, Schema
from meshfold.model.snapshot import Snapshot
from meshfold.model.store import Store

GENRES = ("Action", "Comedy", "Drama", "Sci-Fi", "Film-Noir", "IMAX", "Musical", "War", "Western", "Crime")
FIELDS = (
    Field("genres", FieldKind.CATEGORIES),
    Field("language", FieldKind.CATEGORY),
    Field("year", FieldKind.INTEGER),
    Field("scores", FieldKind.INTEGERS),
    Field("price", FieldKind.NUMBER),
    Field("nothing", FieldKind.INTEGER),
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> UnmatchedParts:
    """Of 500 items whose years are 1900 to 2018 without 1950, prices 0.5 to 250, and scores 1 to 3."""
    n = 500
    years = [[1900 + i % 119] if i % 119 not in (50, 7) else [] for i in range(n)]
    columns = {
        "genres": Column.of_strings(FieldKind.CATEGORIES, [[GENRES[i % 10]] for i in range(n)]),
        "language": Column.of_strings(FieldKind.CATEGORY, [[("de", "en")[i % 2]] for i in range(n)]),
        "year": Column.of_integers(FieldKind.INTEGER, years),
        "scores": Column.of_integers(FieldKind.INTEGERS, [[1, 1 + i % 3] for i in range(n)]),
        "price": Column.of_numbers(np.arange(1, n + 1) / 2),
        "nothing": Column.of_integers(FieldKind.INTEGER, [[] for _ in range(n)]),
    }
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((n, 8)).astype(np.float32)
    catalog = Catalog(
        schema=Schema("shop", FIELDS, ("like",)),
        item_ids=np.arange(n),
        columns=columns,
        vectors=lambda: iter([vectors]),
        dimension=8,
    )
    snapshot = Snapshot.open(publish(catalog, Store(tmp_path_factory.mktemp("store"))), "shop")
    compiler = FilterCompiler(snapshot.schema, snapshot.vocabularies(), snapshot.layout())
    signature = snapshot.filter["signature"]
    return UnmatchedParts(snapshot.schema, compiler.codes, signature, *snapshot.columns(), n)


@pytest.mark.parametrize(
    ("text", "path", "told"),
    [
        ('"comedy" in genres', "filter.match", 'no item has "comedy" in genres; did you mean "Comedy"?'),
        ('" Comedy " in genres', "filter.match", 'did you mean "Comedy"?'),
        ('"scifi" in genres', "filter.match", 'did you mean "Sci-Fi"?'),
        ('"Dramma" in genres', "filter.match", 'did you mean "Drama"?'),
        ('genres in ["WAR", "Crimes", "x"]', "filter.match", 'did you mean "War", "Crime"?'),
        ('language == "fr"', "filter.match", 'no item has "fr" in language; items have "de", "en"'),
        ('language == "DE" || year == 1901', "filter.any.filters[0].match", 'did you mean "de"?'),
        ('!("horror" in genres)', "filter.not.match", 'no item has "horror" in genres'),
        ("year == 1850", "filter.match", "no item has 1850 in year, whose values lie between 1900 and 2018"),
        ("year == 1950", "filter.match", "no item has 1950 in year"),
        ("year in [1850, 1950, 2050, 3000]", "filter.match", "1850 or 1950 or 2050 or 1 more in year"),
        ("5 in scores", "filter.match", "no item has 5 in scores, whose values lie between 1 and 3"),
        ("price == 0", "filter.match", "no item has 0 in price, whose values lie between 0.5 and 250"),
        ("year > 2018", "filter.range", "no item lies in this range of year, whose values lie between 1900"),
        ("price < 0.5", "filter.range", "range of price, whose values lie between 0.5 and 250"),
        ("price > 10.1 && price < 10.2", "filter.all.filters[0].range", ""),
        ("nothing == 1", "filter.match", "no item has 1 in nothing, which no item has"),
        ("has(nothing)", "filter.exists", "no item has nothing"),
        ("year >= 2000 && year < 1990", "filter", "no item passes all of it"),
    ],
)
def test_what_no_item_matches_is_told(parts: UnmatchedParts, text: str, path: str, told: str) -> None:
    notes = parts.of(parse_filter(text), is_empty=True)
    if path in notes:
        assert told in notes[path]
    else:
        # Each bound alone lets items through.
        assert list(notes) == ["filter"]
        assert not told


@pytest.mark.parametrize(
    "text", ["year >= 2000", '"Comedy" in genres', "has(year)", "5 in scores", "year == 1850"]
)
def test_where_items_pass_only_strings_are_looked_at(parts: UnmatchedParts, text: str) -> None:
    assert parts.of(parse_filter(text), is_empty=False) == {}


def test_a_value_that_no_item_has_is_told_beside_one_that_items_have(parts: UnmatchedParts) -> None:
    notes = parts.of(parse_filter('genres in ["Comedy", "Drma"]'), is_empty=False)
    assert notes == {"filter.match": 'no item has "Drma" in genres; did you mean "Drama"?'}


def test_notes_stay_few_and_short(parts: UnmatchedParts) -> None:
    many = " || ".join(f'"{"x" * 200}{i}" in genres' for i in range(50))
    notes = parts.of(parse_filter(many), is_empty=True)
    assert 1 <= len(notes) <= 10
    assert max(map(len, notes.values())) < 300


@pytest.mark.parametrize(
    ("value", "word"),
    [("COMEDY", "comedy"), ("comdy", "comedy"), ("Straße", "strasse"), ("zzz", None), ("", None)],
)
def test_the_nearest_word(value: str, word: str | None) -> None:
    assert nearest_word(value, dict.fromkeys(["action", "comedy", "strasse"])) == word


def test_of_many_words_a_value_is_found_as_it_is_usually_written() -> None:
    words = dict.fromkeys(f"word number {i}" for i in range(200_000))
    words |= dict.fromkeys(["Science Fiction", "IMAX"])
    for value, word in (
        (" WORD NUMBER 199999 ", "word number 199999"),
        ("science fiction", "Science Fiction"),
        ("imax", "IMAX"),
        ("word numbr 7", "word number 7"),
    ):
        assert nearest_word(value, words) == word


def test_few_values_are_looked_for(parts: UnmatchedParts) -> None:
    text = " || ".join(f'"comedi{letter}" in genres' for letter in "abcdefgh")
    notes = parts.of(parse_filter(text), is_empty=True)
    assert sum("did you mean" in note for note in notes.values()) == 5
    assert len(notes) == 8
