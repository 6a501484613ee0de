"""Sources of catalogs: one interface, and one function that opens data of any supported form."""

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
    """Data with a catalog, and perhaps interactions."""

    @property
    def schema(self) -> Schema: ...

    @property
    def value(self) -> ValueConfig | None:
        """Formulas and weights that the data declares, or None."""
        ...

    @property
    def has_vectors(self) -> bool:
        """Whether the items have vectors. Without them, serving needs a file of `meshfold vectors`."""
        ...

    def catalog(self, vectors: Path | None = None) -> Catalog:
        """The items. vectors: a file of `meshfold vectors`; without it the items have the data's own vectors, or
        dimension 0 where there are none."""
        ...

    def interactions(self) -> Interactions | None:
        """The interactions of the data, or None."""
        ...

    def features(self) -> RequestFeatures | None:
        """Features of requests for the schema's inputs, by rows of interactions, or None."""
        ...


def open_source(path: Path) -> Source:
    """Opens a schema file, a folder with schema.toml, or an unpacked MovieLens folder. Raises InvalidData."""
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
    """The schema file at the path or in its folder; None for a MovieLens folder. Raises InvalidData for other data."""
    from meshfold.model.data.movielens_files import FORMS, find_movielens

    if not path.exists():
        raise InvalidData(f"{path}: no such file or folder; name a schema file or a folder of data")
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
