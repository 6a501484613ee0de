"""Readers of GroupLens's three forms of MovieLens files; all give columns of the same names."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from meshfold.model.data.table_column import TableColumn
from meshfold.model.data.table_files import TableFiles
from meshfold.model.errors import InvalidData

Columns = dict[str, TableColumn]

RATING = ("userId", "movieId", "rating", "timestamp")
# The genres of u.item's flags, in their order; "unknown" marks a movie without genres.
GENRES_OF_100K = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *(
        "Fantasy",
        "Film-Noir",
        "Horror",
        "Musical",
        "Mystery",
        "Romance",
        "Sci-Fi",
        "Thriller",
        "War",
        "Western",
    ),
)
_MOVIE = re.compile(r"\s*(\d+)::(.*)::([^:]*)")
_TAG = re.compile(r"\s*(\d+)::(\d+)::(.*)::(\d+)\s*")


@dataclass(frozen=True)
class MovieLensFiles:
    """The files of one edition in a folder. tags_file: "" for an edition without tags."""

    folder: Path
    movies_file: str
    ratings_file: str
    tags_file: str

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of this edition that exist."""
        names = (self.movies_file, self.ratings_file, self.tags_file)
        return tuple(self.folder / name for name in names if name and (self.folder / name).is_file())

    def movies(self) -> Columns:
        """Columns movieId, title and genres; a "|" separates genres."""
        path = self.folder / self.movies_file
        if path.suffix == ".csv":
            return TableFiles.open(path).read(["movieId", "title", "genres"])
        if path.suffix == ".item":
            return _movies_of_100k(path)
        return _columns(path, ("movieId", "title", "genres"), _rows(path, _MOVIE, "MovieID::Title::Genres"))

    def ratings(self) -> Columns:
        """Columns userId, movieId, rating and timestamp."""
        path = self.folder / self.ratings_file
        if path.suffix == ".csv":
            return TableFiles.open(path).read(RATING)
        if path.suffix == ".data":
            return _separated(path, "\t", RATING)
        # "::" parses as two separators with an empty column between them.
        between = [f"between {place} and {place + 1}" for place in range(1, len(RATING))]
        names = [name for pair in zip(RATING, [*between, ""], strict=True) for name in pair if name]
        columns = _separated(path, ":", names)
        for name in between:
            filled = columns.pop(name)
            if filled.values.null_count < len(filled):
                place = pc.index(filled.values.is_valid(), True).as_py()
                raise InvalidData(
                    f"{path}: row {place + 1}: expected UserID::MovieID::Rating::Timestamp; mend the row"
                )
        return columns

    def tags(self) -> Columns | None:
        """Columns movieId and tag; None without a file of tags."""
        path = self.folder / self.tags_file
        if path not in self.paths:
            return None
        if path.suffix == ".csv":
            return TableFiles.open(path).read(["movieId", "tag"])
        rows = _rows(path, _TAG, "UserID::MovieID::Tag::Timestamp")
        return _columns(path, ("movieId", "tag"), [(movie, tag) for _, movie, tag, _ in rows])


# In order: latest, 20M, 25M and 32M; 1M and 10M; 100K.
_EDITIONS = (
    ("movies.csv", "ratings.csv", "tags.csv"),
    ("movies.dat", "ratings.dat", "tags.dat"),
    ("u.item", "u.data", ""),
)
FORMS = ", ".join(f"{movies} and {ratings}" for movies, ratings, _ in _EDITIONS)


def find_movielens(folder: Path) -> MovieLensFiles | None:
    """The MovieLens files in the folder, or in the one folder below it that has them, or None.

    Raises InvalidData for two editions, and for one without its movies or ratings.
    """
    with _faults(folder):
        found = _editions(folder)
        if not found:
            below = sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] not in "._")
            found = [edition for inside in below for edition in _editions(inside)]
    if len(found) > 1:
        named = ", ".join(str(edition.folder / edition.movies_file) for edition in found)
        raise InvalidData(
            f"{folder}: holds MovieLens more than once ({named}); name one folder with one of them"
        )
    if not found:
        return None
    edition = found[0]
    for name in (edition.movies_file, edition.ratings_file):
        if not (edition.folder / name).is_file():
            raise InvalidData(
                f"{edition.folder}: a MovieLens folder without {name}; unpack the whole archive, "
                "or describe tables of your own in schema.toml"
            )
    return edition


def _editions(folder: Path) -> list[MovieLensFiles]:
    return [
        MovieLensFiles(folder, *names)
        for names in _EDITIONS
        if any((folder / name).is_file() for name in names[:2])
    ]


def _movies_of_100k(path: Path) -> Columns:
    """Reads u.item: id, title, two dates and a URL, then a flag for each genre, separated by "|"."""
    rows = []
    for number, line in enumerate(_lines(path), 1):
        cells = line.split("|")
        flags = cells[5:]
        if len(flags) != len(GENRES_OF_100K) or not set(flags) <= {"0", "1"}:
            raise InvalidData(
                f"{path}: row {number}: expected 5 cells and a 0 or 1 for each of {len(GENRES_OF_100K)} genres, "
                f"separated by |, got {line[:80]!r}; mend the row"
            )
        genres = [genre for genre, flag in zip(GENRES_OF_100K, flags, strict=True) if flag == "1"]
        rows.append((cells[0], cells[1], "|".join(genres)))
    return _columns(path, ("movieId", "title", "genres"), rows)


def _rows(path: Path, form: re.Pattern[str], expected: str) -> Iterator[tuple[str, ...]]:
    for number, line in enumerate(_lines(path), 1):
        cells = form.fullmatch(line)
        if cells is None:
            raise InvalidData(f"{path}: row {number}: expected {expected}, got {line[:80]!r}; mend the row")
        yield cells.groups()


def _lines(path: Path) -> list[str]:
    """The lines of a file in UTF-8 or in Latin-1, which 100K and 1M use. Raises InvalidData for a mix of both."""
    with _faults(path):
        whole = path.read_bytes().removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    raw = whole.removesuffix(b"\n").split(b"\n")
    wide = [place for place, line in enumerate(raw) if not line.isascii()]
    latin = [place for place in wide if not _is_utf8(raw[place])]
    if latin and len(latin) < len(wide):
        other = next(place for place in wide if _is_utf8(raw[place]))
        raise InvalidData(
            f"{path}: row {other + 1} is in UTF-8 and row {latin[0] + 1} is not; write the file in one encoding"
        )
    encoding = "latin-1" if latin else "utf-8"
    return [line.decode(encoding) for line in raw] if raw != [b""] else []


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _separated(path: Path, separator: str, names: Sequence[str]) -> Columns:
    """Reads a file of numbers without a header: cells as strings, null for an empty cell."""
    with _faults(path):
        table = pa.csv.read_csv(
            path,
            read_options=pa.csv.ReadOptions(column_names=list(names)),
            parse_options=pa.csv.ParseOptions(delimiter=separator, quote_char=False),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
            ),
        )
    return {name: _column(path, name, table[name]) for name in names}


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as fault:
        raise InvalidData(f"{path}: cannot be read: {' '.join(str(fault).split())}") from fault


def _columns(path: Path, names: Sequence[str], rows: Iterable[tuple[str, ...]]) -> Columns:
    table = list(rows)
    return {
        name: _column(
            path, name, pa.chunked_array([pa.array([row[place] or None for row in table], pa.string())])
        )
        for place, name in enumerate(names)
    }


def _column(path: Path, name: str, values: pa.ChunkedArray) -> TableColumn:
    return TableColumn(name, values, ((path, len(values)),), from_text=True)
