from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

from meshfold.model.data.catalog import Column, numbers_of_keys
from meshfold.model.data.movielens import MovieLensSource
from meshfold.model.data.vector_file import write_vectors
from meshfold.model.errors import InvalidData


def _words(column: Column) -> list[list[str]]:
    assert column.vocabulary is not None
    return [[column.vocabulary[v] for v in part] for part in np.split(column.values, column.offsets[1:-1])]


def test_fields(tiny_movielens: Path) -> None:
    catalog = MovieLensSource(tiny_movielens).catalog()
    assert catalog.item_ids.tolist() == [7, 3, 12, 40, 5]
    assert catalog.texts["title"][0] == "Lantern, The (1931)"
    assert catalog.texts["title"][2] == 'The "Quiet" Hour (1988)'
    genres = [["Drama", "Mystery"], ["Adventure", "Children"], [], ["Drama"], ["Adventure", "Drama"]]
    assert _words(catalog.columns["genres"]) == genres
    assert catalog.columns["year"].offsets.tolist() == [0, 1, 2, 3, 3, 4]
    assert numbers_of_keys(catalog.columns["year"].values).tolist() == [1931, 2004, 1988, 1988]
    assert _words(catalog.columns["tags"]) == [["slow"], ["rainy day"], [], [], []]
    assert catalog.popularity.tolist() == [2, 2, 1, 0, 2]
    assert catalog.dimension == 0


def test_tasks_and_histories(tiny_movielens: Path) -> None:
    interactions = MovieLensSource(tiny_movielens).interactions()
    assert interactions.history(1)[:1].tolist() == [7]
    assert set(interactions.history(1)[1:].tolist()) == {3, 5}  # at one time
    assert interactions.history(2).tolist() == [12, 7]
    assert interactions.tasks["watch"].all()
    assert interactions.of_task("like").history(1).tolist() == [7, 3]
    assert interactions.of_task("like").history(2).tolist() == [12]


def test_tags_may_be_missing(tiny_movielens: Path, tmp_path: Path) -> None:
    folder = Path(copytree(tiny_movielens, tmp_path / "m"))
    (folder / "tags.csv").unlink()
    assert MovieLensSource(folder).catalog().columns["tags"].offsets.tolist() == [0] * 6


def test_vectors_are_joined(tiny_movielens: Path, tmp_path: Path) -> None:
    write_vectors(tmp_path / "v.parquet", np.array([3, 12]), [np.ones((2, 4), np.float32)], 4)
    catalog = MovieLensSource(tiny_movielens).catalog(tmp_path / "v.parquet")
    assert (catalog.dimension, catalog.items_without_vector) == (4, 3)


def test_a_rating_that_is_missing_is_named(tiny_movielens: Path, tmp_path: Path) -> None:
    ratings = Path(copytree(tiny_movielens, tmp_path / "m")) / "ratings.csv"
    ratings.write_text(ratings.read_text().replace("2,7,0.5", "2,7,"))
    with pytest.raises(InvalidData, match=r"ratings\.csv: column rating, row 4: the rating is missing"):
        MovieLensSource(ratings.parent).interactions()


def test_facts_of_movielens(movielens: Path) -> None:
    source = MovieLensSource(movielens)
    catalog, interactions = source.catalog(), source.interactions()
    assert (len(catalog), len(interactions), len(interactions.users)) == (9742, 100_836, 610)
    assert int(interactions.tasks["like"].sum()) == 48_580
    assert len(catalog.columns["genres"].vocabulary or ()) == 19
    assert int(catalog.popularity.sum()) == 100_836
    assert catalog.texts["title"][0] == "Toy Story (1995)"
    assert numbers_of_keys(catalog.columns["year"].values)[0] == 1995
    assert len(catalog) - len(catalog.columns["year"].values) == 12
    for user in interactions.users[:20]:
        times = interactions.times[interactions.user_ids == user]
        assert (np.diff(times) >= 0).all()
