"""MovieLens folders as GroupLens publishes them: movies.csv, ratings.csv and, where it is there, tags.csv."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshfold.model.data.catalog import Catalog, Column, no_vectors
from meshfold.model.data.encoding import encode_column, encode_text
from meshfold.model.data.interactions import Interactions, places_of
from meshfold.model.data.table_column import TableColumn
from meshfold.model.data.table_files import TableFiles
from meshfold.model.data.vector_file import with_vectors
from meshfold.model.schema import Field, FieldKind, Schema
from meshfold.model.types import Int64s

SCHEMA = Schema(
    surface="movies",
    fields=(
        Field("title", FieldKind.TEXT),
        Field("genres", FieldKind.CATEGORIES),
        Field("year", FieldKind.NUMBER),
        Field("tags", FieldKind.CATEGORIES),
    ),
    tasks=("watch", "like"),
)
LIKED = 4.0  # stars, of 0.5 to 5
NO_GENRES = "(no genres listed)"
YEAR = r"\((?P<year>[0-9]{4})\)\s*$"  # "Toy Story (1995)"


class MovieLensSource:
    """A Source (see source.py) of movies: watched where rated at all, liked from 4 stars."""

    schema = SCHEMA
    value = None
    has_vectors = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._interactions: Interactions | None = None

    def catalog(self, vectors: Path | None = None) -> Catalog:
        movies = TableFiles.open(self._path / "movies.csv").read(["movieId", "title", "genres"])
        item_ids = movies["movieId"].ids()
        genres = movies["genres"]
        listed = pc.if_else(pc.equal(genres.values, NO_GENRES), pa.scalar(None, pa.string()), genres.values)
        catalog = Catalog(
            schema=SCHEMA,
            item_ids=item_ids,
            columns={
                "genres": encode_column(FieldKind.CATEGORIES, replace(genres, values=listed), "|"),
                "year": _years(movies["title"]),
                "tags": self._tags(item_ids),
            },
            texts={"title": encode_text(movies["title"])},
            popularity=self.interactions().popularity(item_ids),
            vectors=no_vectors,
            dimension=0,
        )
        return catalog if vectors is None else with_vectors(catalog, vectors)

    def interactions(self) -> Interactions:
        if self._interactions is None:
            names = ["userId", "movieId", "rating", "timestamp"]
            ratings = TableFiles.open(self._path / "ratings.csv").read(names)
            stars = np.asarray(ratings["rating"].floats().fill_null(np.nan).to_numpy(), np.float64)
            if np.isnan(stars).any():
                raise ratings["rating"].fault(int(np.argmax(np.isnan(stars))), "the rating is missing")
            self._interactions = Interactions(
                user_ids=ratings["userId"].ids(),
                item_ids=ratings["movieId"].ids(),
                times=ratings["timestamp"].times(),
                tasks={"watch": np.ones(len(stars), bool), "like": stars >= LIKED},
            )
        return self._interactions

    def _tags(self, item_ids: Int64s) -> Column:
        """The tags that anyone gave each movie, in lower case."""
        path = self._path / "tags.csv"
        if not path.is_file():
            return Column.of_strings(FieldKind.CATEGORIES, [()] * len(item_ids))
        read = TableFiles.open(path).read(["movieId", "tag"])
        movies, tags = read["movieId"].ids(), read["tag"]
        clean = pc.utf8_trim_whitespace(pc.utf8_lower(tags.strings()))
        clean = pc.if_else(pc.equal(clean, ""), pa.scalar(None, clean.type), clean)
        rows = places_of(movies, item_ids)
        order = np.argsort(rows, kind="stable")
        order = order[rows[order] >= 0]
        lists = pa.LargeListArray.from_arrays(
            np.searchsorted(rows[order], np.arange(len(item_ids) + 1)), clean.take(order).combine_chunks()
        )
        column = TableColumn("tag", pa.chunked_array([lists]), ((path, len(item_ids)),), from_text=False)
        return encode_column(FieldKind.CATEGORIES, column)


def _years(titles: TableColumn) -> Column:
    found = pc.struct_field(pc.extract_regex(titles.strings(), YEAR), "year").cast(pa.float64())
    return Column.of_numbers(np.asarray(found.fill_null(np.nan).to_numpy(), np.float64))
