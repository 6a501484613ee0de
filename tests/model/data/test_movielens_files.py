"""Small folders of our own in the published forms of MovieLens."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from meshfold.model.data.catalog import Column, numbers_of_keys
from meshfold.model.data.movielens import MovieLensSource
from meshfold.model.data.movielens_files import GENRES_OF_100K
from meshfold.model.data.source import input_files, open_source
from meshfold.model.errors import InvalidData

MOVIES = "11::Lantern, The (1931)::Drama|Mystery\n12::Caf\u00e9 M\u00fcller: A Life (1985)::Comedy\n"
RATINGS = "1::11::5::978300760\n1::12::3::978302109\n2::12::4.5::978301968\n"
TAGS = "1::11::a lamp::978300760\n2::11::A Lamp ::978300761\n2::12::who: me?::978300762\n"


def _flags(*genres: str) -> str:
    return "|".join("1" if genre in genres else "0" for genre in GENRES_OF_100K)


ITEMS = (
    f"11|Lantern, The (1931)|01-Jan-1931||http://example.org/?Lantern%20(1931)|{_flags('Drama', 'Mystery')}\n"
    f"12|Caf\u00e9 M\u00fcller (1985) (V)|01-Jan-1985||http://example.org/|{_flags('Comedy')}\n"
    f"13|unknown||||{_flags('unknown')}\n"
)
DATA = "1\t11\t5\t881250949\n1\t12\t3\t881250950\n2\t12\t4\t881250951\n"


def _write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def _words(column: Column) -> list[list[str]]:
    assert column.vocabulary is not None
    return [[column.vocabulary[v] for v in part] for part in np.split(column.values, column.offsets[1:-1])]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-8-sig"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_1m_and_10m(tmp_path: Path, encoding: str, line_end: str) -> None:
    files = {"movies.dat": MOVIES, "ratings.dat": RATINGS, "users.dat": "1::F::1::10::48067\n"}
    encoded: dict[str, str | bytes] = {
        name: text.replace("\n", line_end).encode(encoding) for name, text in files.items()
    }
    source = MovieLensSource(_write(tmp_path, encoded))
    catalog, interactions = source.catalog(), source.interactions()
    assert catalog.item_ids.tolist() == [11, 12]
    assert list(catalog.texts["title"]) == ["Lantern, The (1931)", "Caf\u00e9 M\u00fcller: A Life (1985)"]
    assert _words(catalog.columns["genres"]) == [["Drama", "Mystery"], ["Comedy"]]
    assert numbers_of_keys(catalog.columns["year"].values).tolist() == [1931, 1985]
    assert _words(catalog.columns["tags"]) == [[], []]
    assert interactions.history(1).tolist() == [11, 12]
    assert interactions.of_task("like").history(2).tolist() == [12]


def test_tags_of_10m(tmp_path: Path) -> None:
    files = {"movies.dat": MOVIES, "ratings.dat": RATINGS, "tags.dat": TAGS}
    catalog = MovieLensSource(_write(tmp_path, files)).catalog()
    assert _words(catalog.columns["tags"]) == [["a lamp"], ["who: me?"]]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-8-sig"])
def test_100k(tmp_path: Path, encoding: str) -> None:
    files: dict[str, str | bytes] = {
        "u.item": ITEMS.encode(encoding),
        "u.data": DATA,
        "u.genre": "unknown|0\n",
        "ua.base": "1\t11\t5\t8\n",
    }
    source = MovieLensSource(_write(tmp_path, files))
    catalog, interactions = source.catalog(), source.interactions()
    assert list(catalog.texts["title"]) == [
        "Lantern, The (1931)",
        "Caf\u00e9 M\u00fcller (1985) (V)",
        "unknown",
    ]
    assert _words(catalog.columns["genres"]) == [["Drama", "Mystery"], ["Comedy"], []]
    assert numbers_of_keys(catalog.columns["year"].values).tolist() == [1931, 1985]
    assert catalog.columns["year"].offsets.tolist() == [0, 1, 2, 2]
    assert len(interactions) == 3
    assert interactions.history(1).tolist() == [11, 12]


FORMS: dict[str, dict[str, str | bytes]] = {
    "ml-25m": {
        "movies.csv": "movieId,title,genres\n11,Lantern,Drama\n",
        "ratings.csv": "userId,movieId,rating,timestamp\n1,11,5.0,1\n",
        "tags.csv": "userId,movieId,tag,timestamp\n1,11,lamp,1\n",
        "genome-tags.csv": "tagId,tag\n1,007\n",
    },
    "ml-1m": {"movies.dat": MOVIES, "ratings.dat": RATINGS, "users.dat": ""},
    "ml-100k": {"u.item": ITEMS, "u.data": DATA},
}


@pytest.mark.parametrize("name", FORMS)
def test_the_folder_around_the_unpacked_one_will_do(tmp_path: Path, name: str) -> None:
    inside = _write(tmp_path / name, FORMS[name])
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "notes").mkdir()
    assert len(open_source(tmp_path).catalog()) == len(open_source(inside).catalog())
    assert input_files(tmp_path) == input_files(inside)
    read = {file.name for file in input_files(inside)}
    assert read == {name for name in FORMS[name] if name.split(".")[0] not in ("genome-tags", "users")}


def test_two_editions_and_half_of_one_are_refused(tmp_path: Path) -> None:
    _write(tmp_path / "ml-1m", FORMS["ml-1m"])
    _write(tmp_path / "ml-100k", FORMS["ml-100k"])
    with pytest.raises(
        InvalidData, match=r"holds MovieLens more than once \(.*u\.item, .*movies\.dat\); name one"
    ):
        open_source(tmp_path)
    (tmp_path / "ml-1m" / "ratings.dat").unlink()
    with pytest.raises(
        InvalidData, match=r"ml-1m: a MovieLens folder without ratings\.dat; unpack the whole archive"
    ):
        open_source(tmp_path / "ml-1m")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "movies.dat",
            "11:Lantern:Drama\n",
            r"movies\.dat: row 1: expected MovieID::Title::Genres, got '11:Lantern",
        ),
        ("movies.dat", MOVIES + "\n", r"movies\.dat: row 3: expected MovieID::Title::Genres, got ''"),
        (
            "movies.dat",
            MOVIES.encode() + b"13::Caf\xe9 (1999)::Drama\n",
            r"movies\.dat: row 2 is in UTF-8 and row 3 is not; write the file in one encoding",
        ),
        ("ratings.dat", "1::11::5\n", r"ratings\.dat: cannot be read: .*Expected 7 columns, got 5"),
        ("ratings.dat", RATINGS + "1::x::5::9\n", r"ratings\.dat: column movieId, row 4: expected an int"),
        ("ratings.dat", "1::11::::9\n", r"ratings\.dat: column rating, row 1: the rating is missing"),
        (
            "ratings.dat",
            "1:7:11::5::9\n",
            r"ratings\.dat: row 1: expected UserID::MovieID::Rating::Timestamp",
        ),
        ("tags.dat", "1::11::lamp\n", r"tags\.dat: row 1: expected UserID::MovieID::Tag::Timestamp"),
        ("ratings.dat", "1::99::5::9\n", "More than 50% unknown items"),
    ],
)
def test_rows_that_are_not_as_published_are_named(
    tmp_path: Path, name: str, text: str | bytes, message: str
) -> None:
    files: dict[str, str | bytes] = {
        **{"movies.dat": MOVIES, "ratings.dat": RATINGS, "tags.dat": TAGS},
        name: text,
    }
    with pytest.raises(InvalidData, match=message):
        MovieLensSource(_write(tmp_path, files)).catalog()


@pytest.mark.parametrize(
    ("old", "new"), [("|0|0", "|0"), ("|1|0", "|2|0"), ("||http", "||x|http"), ("unknown|", "unknown")]
)
def test_a_row_of_100k_that_is_not_as_published_is_named(tmp_path: Path, old: str, new: str) -> None:
    files = {"u.item": ITEMS.replace(old, new, 1), "u.data": DATA}
    with pytest.raises(
        InvalidData, match=r"u\.item: row [13]: expected 5 cells and a 0 or 1 for each of 19 genres"
    ):
        MovieLensSource(_write(tmp_path, files)).catalog()


@pytest.mark.parametrize(
    ("title", "year"),
    [
        ("Lantern, The (1931)", 1931),
        ("Lantern (1931) ", 1931),
        ("Series (2006\u20132007)", 2006),
        ("Series (1975-1979)", 1975),
        ("Series (2014\u2013 )", 2014),
        ("Series (2009- )", 2009),
        ("Series (2012 \u2014 2015)", 2012),
        ("Series (1989-90)", 1989),
        ("On Video (1995) (V)", 1995),
        ("Two of a Name (1999/II)", 1999),
        ("2001: An Odyssey (1968)", 1968),
        ("(500) Days (2009)", 2009),
        ("1900 (Novecento) (1976)", 1976),
        ("Remade (1950) (1984)", 1984),
        ("1984", None),
        ("Room 1408", None),
        ("Untitled", None),
        ("Cube (3000)", None),
        ("", None),
    ],
)
def test_the_year_of_a_title(tmp_path: Path, title: str, year: int | None) -> None:
    movies = f'movieId,title,genres\n11,"{title}",Drama\n'
    folder = _write(tmp_path, {**FORMS["ml-25m"], "movies.csv": movies})
    years = MovieLensSource(folder).catalog().columns["year"]
    assert numbers_of_keys(years.values).tolist() == ([] if year is None else [year])


def test_genres_that_say_none(tmp_path: Path) -> None:
    movies = "movieId,title,genres\n11,A,(no genres listed)\n12,B,unknown\n13,C,\n14,D,War\n"
    folder = _write(tmp_path, {**FORMS["ml-25m"], "movies.csv": movies})
    assert _words(MovieLensSource(folder).catalog().columns["genres"]) == [[], [], [], ["War"]]
