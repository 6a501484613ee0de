from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

from meshfold.commands import evaluate
from meshfold.model.config import IndexConfig
from meshfold.model.data.factorized import write_factorized
from meshfold.model.errors import InvalidConfig, InvalidData, SnapshotRefused
from meshfold.model.progress import silent
from meshfold.model.publishing import ModelParts, publish_data

PNG = b"\x89PNG\r\n\x1a\n"


def _run(*argv: str | Path) -> int:
    parser = argparse.ArgumentParser()
    evaluate.add(parser.add_subparsers())
    args = parser.parse_args(["evaluate", *map(str, argv)])
    status: int = args.run(args)
    return status


@pytest.fixture(scope="module")
def store(tiny_movielens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from meshfold.model.data.source import open_source

    folder = tmp_path_factory.mktemp("evaluated")
    write_factorized(open_source(tiny_movielens), tiny_movielens, folder / "v.parquet")
    parts = ModelParts(vectors=folder / "v.parquet")
    publish_data(tiny_movielens, parts, folder / "store", IndexConfig(), silent)
    return folder / "store"


def test_a_row_a_way_as_json(store: Path, tiny_movielens: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(store, tiny_movielens, "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(r["search"], r["ranking"], r["candidates"]) for r in rows} == {
        ("index", "similarity", 5),
        ("exact", "similarity", 5),
    }
    names = {f"{part}@{k}" for part in ("recall", "ndcg") for k in (20, 50, 100)}
    assert all(names <= r.keys() and r["p95_ms"] >= r["p50_ms"] > 0 for r in rows)
    # Five items in all: every one that a user has not met is in the first 20.
    assert all(r["recall@20"] == 1.0 and r["users"] > 0 for r in rows)


def test_a_table_a_task(store: Path, tiny_movielens: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (snapshot,) = (store / "movies").iterdir()
    assert _run(snapshot, tiny_movielens, "--users", "2") == 0
    told = capsys.readouterr()
    assert "watch: held-out interactions of" in told.out
    assert "ndcg@100" in told.out
    assert "does not say that the latest 20% was held out" in told.err


def test_rows_and_plot_are_written(store: Path, tiny_movielens: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert _run(store, tiny_movielens, "--out", tmp_path / "new") == 0
    rows = [json.loads(line) for line in (tmp_path / "new" / "rows.jsonl").read_text().splitlines()]
    (snapshot,) = (store / "movies").iterdir()
    assert {(r["surface"], r["items"], r["version"][:12]) for r in rows} == {
        ("movies", 5, snapshot.name[-12:])
    }
    assert (tmp_path / "new" / "quality.png").read_bytes().startswith(PNG)


def test_without_matplotlib_out_is_refused_before_anything_is_measured(
    store: Path,
    tiny_movielens: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InvalidConfig, match=r"pip install 'meshfold\[plot\]'"):
        _run(store, tiny_movielens, "--out", tmp_path)
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []
    assert _run(store, tiny_movielens, "--json") == 0


def test_another_surface_is_refused(store: Path, tiny_shop: Path) -> None:
    with pytest.raises(SnapshotRefused, match="neither a snapshot nor a store with one of surface 'shop'"):
        _run(store, tiny_shop)
    (snapshot,) = (store / "movies").iterdir()
    with pytest.raises(SnapshotRefused, match="not of 'shop'"):
        _run(snapshot, tiny_shop)


def test_data_without_interactions_is_refused(store: Path, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("id\n1\n")
    schema = 'surface = "movies"\n[items]\nsource = "items.csv"\nid = "id"\n[tasks.watch]\n'
    (tmp_path / "schema.toml").write_text(schema)
    with pytest.raises(InvalidData, match="has no interactions to evaluate on"):
        _run(store, tmp_path)


def test_a_file_in_the_place_of_the_folder_is_refused(
    store: Path, tiny_movielens: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidConfig, match="is there and no folder"):
        _run(store, tiny_movielens, "--out", tmp_path / "file")


@pytest.mark.parametrize("candidates", ["", "many", "256,"])
def test_what_is_no_list_of_numbers_is_a_usage_error(
    store: Path, tiny_movielens: Path, candidates: str
) -> None:
    with pytest.raises(SystemExit):
        _run(store, tiny_movielens, "--candidates", candidates)
