import subprocess
import sys
from pathlib import Path

import pytest

from meshfold.model.data.source import input_files, open_source
from meshfold.model.errors import InvalidData


def test_a_path_is_a_schema_file_its_folder_or_movielens(tiny_shop: Path, tiny_movielens: Path) -> None:
    assert open_source(tiny_shop).schema.surface == "shop"
    assert open_source(tiny_shop / "schema.toml").schema.surface == "shop"
    assert open_source(tiny_movielens).schema.surface == "movies"


def test_other_paths_are_refused(tiny_shop: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="no such file or folder"):
        open_source(tmp_path / "missing")
    with pytest.raises(InvalidData, match=r"items\.csv: expected a schema file \(\.toml\)"):
        open_source(tiny_shop / "items.csv")
    with pytest.raises(
        InvalidData, match=r"holds neither schema\.toml nor the files of MovieLens \(movies\.csv and"
    ):
        open_source(tmp_path)
    (tmp_path / "ml-1m.zip").touch()
    with pytest.raises(
        InvalidData, match=r"ml-1m\.zip: expected a schema file .*; unpack it and name its folder"
    ):
        open_source(tmp_path / "ml-1m.zip")


def test_the_files_of_a_schema(tiny_shop: Path) -> None:
    names = ["schema.toml", "items.csv", "events.csv"]
    assert [file.relative_to(tiny_shop).as_posix() for file in input_files(tiny_shop)] == names


def test_what_serving_may_import_needs_neither_pyarrow_nor_scipy() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('pyarrow', 'scipy', 'lark', 'celpy', 'rich')));"
        "import meshfold.model.data.catalog, meshfold.model.data.interactions, meshfold.model.data.source;"
        "import meshfold.model.vectors, meshfold.model.data.generated;"
        "import meshfold.commands.data, meshfold.commands.vectors"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
