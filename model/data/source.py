"""Where a catalog comes from: one entry for every shape of data."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from meshfold.model.data.catalog import Catalog
from meshfold.model.data.interactions import Interactions
from meshfold.model.errors import InvalidData
from meshfold.model.schema import Schema
from meshfold.model.value.config import ValueConfig

SCHEMA_FILE = "schema.toml"
MOVIELENS_FILES = ("movies.csv", "ratings.csv")


class Source(Protocol):
    """Data that can become a catalog."""

    @property
    def schema(self) -> Schema: ...

    @property
    def value(self) -> ValueConfig | None:
        """Formulas that the data declares; None where it declares none."""
        ...

    @property
    def has_vectors(self) -> bool:
        """Whether the items come with vectors; else a file of vectors makes them servable."""
        ...

    def catalog(self, vectors: Path | None = None) -> Catalog:
        """The items, with the vectors of that file of `meshfold vectors` where one is given; else with those
        they come with; else with dimension 0."""
        ...

    def interactions(self) -> Interactions | None:
        """What users did, None where the data does not say."""
        ...


def open_source(path: Path) -> Source:
    """A schema file, a folder that holds schema.toml, or a MovieLens folder as it was published."""
    # pyarrow is imported here, so that the serving path runs without it.
    from meshfold.model.data.movielens import MovieLensSource
    from meshfold.model.data.tables import TableSource

    if not path.exists():
        raise InvalidData(f"{path}: there is no such file or folder; name a schema file or a folder of data")
    if path.is_file():
        if path.suffix != ".toml":
            raise InvalidData(f"{path}: expected a schema file (.toml) or a folder of data")
        return TableSource(path)
    if (path / SCHEMA_FILE).is_file():
        return TableSource(path / SCHEMA_FILE)
    if all((path / name).is_file() for name in MOVIELENS_FILES):
        return MovieLensSource(path)
    raise InvalidData(
        f"{path}: holds neither {SCHEMA_FILE} nor the {' and '.join(MOVIELENS_FILES)} of a MovieLens folder"
    )
