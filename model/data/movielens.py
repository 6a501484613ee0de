"""The MovieLens data sets in GroupLens's own files: 100K, 1M, 10M, 20M, 25M, 32M and the latest."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshfold.model.data.catalog import Catalog, Column, no_vectors
from meshfold.model.data.encoding import encode_column, encode_text
from meshfold.model.data.ids import read_unique_ids
from meshfold.model.data.interactions import Interactions, places_of
from meshfold.model.data.joins import check_join
from meshfold.model.data.movielens_files import FORMS, Columns, find_movielens
from meshfold.model.data.table_column import TableColumn
from meshfold.model.data.times import times_of
from meshfold.model.data.vector_file import with_vectors
from meshfold.model.errors import InvalidData
from meshfold.model.schema import Field, FieldKind, IdKind, Schema
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
LIKED = 4.0  # least stars (0.5 to 5) of task "like"
NO_GENRES = ("(no genres listed)", "unknown")
# The last year in brackets; in a range, its first year: "Toy Story (1995)", "Fawlty Towers (1975-1979)",
# "Noah (2014– )", "Ran (1985) (V)".
YEAR = r"(?s)^.*\((?P<year>(?:18|19|20)[0-9]{2})(?:/[IVX]+)?(?:\s*[-‐-―−]\s*(?:[0-9]{2}|[0-9]{4})?)?\s*\)"


class MovieLensSource:
    """A Source (source.py) of movies. Every rating counts as "watch", one of LIKED stars or more as "like"."""

    schema = SCHEMA
    value = None
    has_vectors = False

    def __init__(self, path: Path) -> None:
        """path: a folder with the files, or with one folder that has them. Raises InvalidData for missing files."""
        found = find_movielens(path)
        if found is None:
            raise InvalidData(f"{path}: holds none of {FORMS} of MovieLens")
        self._files = found
        self._interactions: Interactions | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that this source reads."""
        return self._files.paths

    def catalog(self, vectors: Path | None = None) -> Catalog:
        item_ids = read_unique_ids(self._movies["movieId"], IdKind.INTEGERS).keys
        genres = self._movies["genres"]
        none = pc.is_in(genres.values, value_set=pa.array(NO_GENRES))
        listed = pc.if_else(none, pa.scalar(None, pa.string()), genres.values)
        catalog = Catalog(
            schema=SCHEMA,
            item_ids=item_ids,
            columns={
                "genres": encode_column(FieldKind.CATEGORIES, replace(genres, values=listed), "|"),
                "year": _years(self._movies["title"]),
                "tags": self._tags(item_ids),
            },
            texts={"title": encode_text(self._movies["title"])},
            popularity=self.interactions().popularity(item_ids),
            vectors=no_vectors,
            dimension=0,
        )
        return catalog if vectors is None else with_vectors(catalog, vectors)

    def interactions(self) -> Interactions:
        if self._interactions is None:
            ratings, known = self._files.ratings(), self._movies["movieId"].ids()
            stars = np.asarray(ratings["rating"].floats().fill_null(np.nan).to_numpy(), np.float64)
            if np.isnan(stars).any():
                raise ratings["rating"].fault(int(np.argmax(np.isnan(stars))), "the rating is missing")
            met = ratings["movieId"].ids()
            check_join(self._files.folder / self._files.ratings_file, met, met, known, known)
            self._interactions = Interactions(
                user_ids=ratings["userId"].ids(),
                item_ids=met,
                times=times_of(ratings["timestamp"]),
                tasks={"watch": np.ones(len(stars), bool), "like": stars >= LIKED},
            )
        return self._interactions

    def features(self) -> None:
        """None: the schema declares no inputs."""

    @cached_property
    def _movies(self) -> Columns:
        return self._files.movies()

    def _tags(self, item_ids: Int64s) -> Column:
        """The tags of each movie from all users, in lower case."""
        read = self._files.tags()
        if read is None:
            return Column.of_strings(FieldKind.CATEGORIES, [()] * len(item_ids))
        movies, tags = read["movieId"].ids(), read["tag"]
        clean = pc.utf8_trim_whitespace(pc.utf8_lower(tags.strings()))
        clean = pc.if_else(pc.equal(clean, ""), pa.scalar(None, clean.type), clean)
        rows = places_of(movies, item_ids)
        order = np.argsort(rows, kind="stable")
        order = order[rows[order] >= 0]
        lists = pa.LargeListArray.from_arrays(
            np.searchsorted(rows[order], np.arange(len(item_ids) + 1)), clean.take(order).combine_chunks()
        )
        column = TableColumn(
            "tag", pa.chunked_array([lists]), ((self._files.folder, len(item_ids)),), from_text=False
        )
        return encode_column(FieldKind.CATEGORIES, column)


def _years(titles: TableColumn) -> Column:
    found = pc.struct_field(pc.extract_regex(titles.strings(), YEAR), "year").cast(pa.float64())
    return Column.of_numbers(np.asarray(found.fill_null(np.nan).to_numpy(), np.float64))
