"""`meshfold build` and `meshfold inspect` on real files, and a build that is killed."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from meshfold.commands.__main__ import main
from meshfold.model.data.generated_tables import write_generated
from meshfold.model.data.vector_file import write_vectors
from meshfold.model.store import Store


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "generated"
    write_generated(folder, 12_000, 32, 50, 0)
    return folder


def built(data: Path, store: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["build", str(data), "--store", str(store), "--json", "--iterations", "2", *words]) == 0
    summary: dict[str, Any] = json.loads(capsys.readouterr().out)
    return summary


def test_a_killed_build_publishes_nothing_and_the_next_is_as_if_undisturbed(
    generated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    words = ["build", str(generated), "--store", str(killed), "--iterations", "2"]
    process = subprocess.Popen([sys.executable, "-m", "meshfold.commands", *words])
    surface = killed / "generated"
    while not any(surface.glob(".partial-*/index.safetensors")):
        assert process.poll() is None, "the build ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert Store(killed).published("generated") == []
    again = built(generated, killed, capsys)
    assert again["version"] == built(generated, undisturbed, capsys)["version"]
    assert [p.name for p in Store(killed).published("generated")] == [Path(again["folder"]).name]


def test_building_what_is_newest_publishes_nothing_new(
    generated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = built(generated, tmp_path, capsys)
    assert built(generated, tmp_path, capsys)["folder"] == first["folder"]
    assert built(generated, tmp_path, capsys, "--seed", "1")["folder"] != first["folder"]
    assert len(Store(tmp_path).published("generated")) == 2


def test_inspect_shows_the_newest_of_a_store_or_one_snapshot(
    generated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = built(generated, tmp_path, capsys)
    assert main(["inspect", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == summary
    assert main(["inspect", summary["folder"]]) == 0
    shown = capsys.readouterr().out
    for part in ("generated (generated data)", summary["version"], "12,000 of dimension 32", "exact planes"):
        assert part in shown
    sizes = summary["bytes_per_item"]
    assert sizes["index.codes"] == sizes["index.residuals"] == 32.0
    assert summary["bytes"] == sum(p.stat().st_size for p in Path(summary["folder"]).glob("*.safetensors"))


def test_what_cannot_be_built_is_told_with_the_remedy(
    tiny_movielens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--store", str(tmp_path / "store")]
    for words, message in (
        ([str(tiny_movielens)], "meshfold train"),
        ([str(tiny_movielens), "--model", str(tmp_path / "no")], "no such model folder"),
        ([str(tiny_movielens), "--item-tower", "nowhere"], "write package.module:name"),
        ([str(tmp_path)], "holds neither schema.toml"),
    ):
        assert main(["build", *words, *store]) == 1
        assert message in capsys.readouterr().err
    assert main(["inspect", str(tmp_path)]) == 1
    assert "neither a snapshot nor a store" in capsys.readouterr().err
    assert Store(tmp_path / "store").surfaces() == []


def test_items_that_a_file_of_vectors_lacks_are_counted(
    tiny_movielens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = tmp_path / "vectors.parquet"
    write_vectors(vectors, np.array([7]), [np.ones((1, 4), np.float32)], 4)
    store = tmp_path / "store"
    assert main(["build", str(tiny_movielens), "--store", str(store), "--vectors", str(vectors)]) == 0
    assert "4 items have no vector in the file" in capsys.readouterr().out
    (folder,) = Store(store).published("movies")
    assert json.loads((folder / "manifest.json").read_text())["built"]["items_without_vector"] == 4


def test_a_device_that_is_not_there_is_refused(
    generated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["build", str(generated), "--store", str(tmp_path), "--device"]
    assert main([*words, "gpu0"]) != 0
    assert "--device must be cpu, cuda or cuda:N, got 'gpu0'" in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert main([*words, "cuda"]) != 0
        assert "torch sees no CUDA device here; build with --device cpu" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
