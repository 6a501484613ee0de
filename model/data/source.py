"""Where a catalog comes from: one entry for every shape of data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from meshfold.model.data.catalog import Catalog
from meshfold.model.data.interactions import Interactions
from meshfold.model.errors import InvalidData
from meshfold.model.schema import Schema
from meshfold.model.value.config import ValueConfig

if TYPE_CHECKING:
    from meshfold.model.data.request_features import RequestFeatures

SCHEMA_FILE = "schema.toml"


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

    def features(self) -> RequestFeatures | None:
        """What requests bring for the inputs of the schema, by rows of the interactions; None where there are no
        inputs or no interactions."""
        ...


def open_source(path: Path) -> Source:
    """A schema file, a folder that holds schema.toml, or a MovieLens folder as it is unpacked."""
    # pyarrow is imported here, so that the serving path runs without it.
    from meshfold.model.data.movielens import MovieLensSource
    from meshfold.model.data.tables import TableSource

    described = _schema_file(path)
    if described is not None:
        return TableSource(described)
    return MovieLensSource(path)


def input_files(path: Path) -> tuple[Path, ...]:
    """Every file that open_source(path) reads."""
    from meshfold.model.data.movielens import MovieLensSource
    from meshfold.model.data.schema_file import SchemaFile
    from meshfold.model.data.table_files import TableFiles

    described = _schema_file(path)
    if described is None:
        return MovieLensSource(path).paths
    read = SchemaFile.read(described)
    sources = [read.items.source] + ([read.interactions.source] if read.interactions else [])
    return (described, *(part.path for source in sources for part in TableFiles.open(source).parts))


def _schema_file(path: Path) -> Path | None:
    """The schema file at the path or in its folder; None where it is a MovieLens folder."""
    from meshfold.model.data.movielens_files import FORMS, find_movielens

    if not path.exists():
        raise InvalidData(f"{path}: there is no such file or folder; name a schema file or a folder of data")
    if path.is_file():
        if path.suffix == ".toml":
            return path
        hint = "; unpack it and name its folder" if path.suffix in (".zip", ".gz", ".tar", ".7z") else ""
        raise InvalidData(f"{path}: expected a schema file (.toml) or a folder of data{hint}")
    if (path / SCHEMA_FILE).is_file():
        return path / SCHEMA_FILE
    if find_movielens(path) is None:
        raise InvalidData(
            f"{path}: holds neither {SCHEMA_FILE} nor the files of MovieLens ({FORMS}); describe tables of your own "
            f"in a {SCHEMA_FILE}"
        )
    return None
