import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from meshfold.commands import vectors
from meshfold.model import vectors as model_vectors
from meshfold.model.data.source import open_source
from meshfold.model.errors import InvalidData


def _run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    vectors.add(parser.add_subparsers())
    args = parser.parse_args(["vectors", *argv])
    status: int = args.run(args)
    return status


def test_the_file_fits_the_catalog(
    tiny_movielens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "v.parquet"
    assert _run(str(tiny_movielens), "--out", str(out), "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == {"path": str(out), "items": 5, "items_without_interactions": 1, "dimension": 3}
    catalog = open_source(tiny_movielens).catalog(out)
    assert (catalog.dimension, catalog.items_without_vector) == (3, 0)
    read = np.concatenate(list(catalog.vectors()))
    assert read.any(axis=1).tolist() == [True, True, True, False, True]


def test_equal_arguments_give_equal_bytes(tiny_shop: Path, tmp_path: Path) -> None:
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for file in files:
        _run(str(tiny_shop), "--out", str(file), "--dimension", "2", "--seed", "4")
    assert files[0].read_bytes() == files[1].read_bytes()


def test_data_without_interactions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("id\n1\n")
    schema = 'surface = "s"\n[items]\nsource = "items.csv"\nid = "id"\n[tasks.view]\n'
    (tmp_path / "schema.toml").write_text(schema)
    with pytest.raises(InvalidData, match="has no interactions to make vectors from"):
        _run(str(tmp_path), "--out", str(tmp_path / "v.parquet"))


def test_another_suffix_is_refused(tiny_shop: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"ends in \.parquet"):
        _run(str(tiny_shop), "--out", str(tmp_path / "v.npy"))


def test_the_default_is_the_models() -> None:
    """Named twice so that a command line is read without importing torch."""
    assert vectors.DEFAULT_DIMENSION == model_vectors.DEFAULT_DIMENSION
