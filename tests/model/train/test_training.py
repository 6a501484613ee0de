"""Whole trainings of a generated catalog of 400 items."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from meshfold.model.data.generated_tables import write_generated
from meshfold.model.data.source import open_source
from meshfold.model.errors import InvalidConfig, InvalidData
from meshfold.model.program import read_program
from meshfold.model.train.config import OverArchKind, TrainConfig
from meshfold.model.train.metrics import Metrics
from meshfold.model.train.training import train

CONFIG = TrainConfig(
    dimension=8, steps=24, batch_size=16, negatives=64, validate_every=3, patience=100, learning_rate=1e-3,
    hidden=(16, 8), candidates=64, over_arch_steps=12, over_arch_batch_size=8,
)  # fmt: skip
FILES = [
    "item_tower.pt2", "metrics.json", "over_arch.pt2", "user_tower.pt2", "vectors.parquet", "weights.safetensors"
]  # fmt: skip
CODE = """
import json
import sys
from pathlib import Path
from meshfold.model.data.source import open_source
from meshfold.model.train.config import OverArchKind, TrainConfig
from meshfold.model.train.training import train
raw = json.loads(sys.argv[3])
raw |= {"over_arch": OverArchKind(raw["over_arch"]), "hidden": tuple(raw["hidden"])}
train(open_source(Path(sys.argv[1])), Path(sys.argv[2]), TrainConfig(**raw))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "generated"
    # Of this seed training takes some steps, so that every stage has a checkpoint.
    write_generated(folder, items=400, dimension=8, users=60, seed=1)
    return folder


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Metrics]:
    out = tmp_path_factory.mktemp("model") / "model"
    return out, train(open_source(data), out, CONFIG)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_folder_holds_vectors_programs_and_metrics(data: Path, trained: tuple[Path, Metrics]) -> None:
    out, metrics = trained
    assert sorted(_bytes(out)) == FILES
    assert sorted(path.name for path in out.parent.iterdir()) == ["model"]
    assert Metrics.from_json(json.loads((out / "metrics.json").read_text())) == metrics
    table = pq.read_table(out / "vectors.parquet")
    assert table["item_id"].to_pylist() == sorted(open_source(data).catalog().item_ids.tolist())
    tasks = len(metrics.users)
    inputs = {
        "history": torch.zeros((1, 128), dtype=torch.int64),
        "history_vectors": torch.randn((1, 128, 8), generator=torch.Generator().manual_seed(0)),
        "in_history": torch.ones((1, 128), dtype=torch.bool),
    }
    users = read_program(out / "user_tower.pt2")(inputs)
    assert users.shape == (1, tasks, 8)
    scores = read_program(out / "over_arch.pt2")(users, torch.zeros(1, 2048, 8), torch.zeros(1, tasks, 2048))
    assert scores.shape == (1, tasks, 2048)


def test_the_index_finds_what_exact_search_does(trained: tuple[Path, Metrics]) -> None:
    rankings = trained[1].rankings
    for task in trained[1].users:
        exact, index = rankings["towers, exact"][task], rankings["towers, index"][task]
        assert exact is not None
        assert index is not None
        assert index.recall[20] == pytest.approx(exact.recall[20], rel=0.02)


@pytest.mark.parametrize("newest", ["choose", "over_arch", "fit"])
def test_killed_it_goes_on_and_ends_with_the_same_bytes(
    newest: str, data: Path, trained: tuple[Path, Metrics], tmp_path: Path
) -> None:
    """Killed, by a signal that no process sees, as soon as a stage has its first checkpoint."""
    out = tmp_path / "model"
    command = [sys.executable, "-P", "-c", CODE, str(data), str(out), json.dumps(CONFIG.to_json())]
    checkpoint = tmp_path / ".model.training" / f"{newest}.safetensors"
    running = subprocess.Popen(command)
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert checkpoint.exists()
    assert not out.exists()
    train(open_source(data), out, CONFIG)
    assert _bytes(out) == _bytes(trained[0])
    assert not checkpoint.parent.exists()


def test_another_seed_gives_another_model_in_place_of_the_old(
    data: Path, trained: tuple[Path, Metrics], tmp_path: Path
) -> None:
    out = tmp_path / "model"
    config = dataclasses.replace(CONFIG, over_arch=OverArchKind.NONE)
    train(open_source(data), out, config)
    assert sorted(_bytes(out)) == [name for name in FILES if name != "over_arch.pt2"]
    first = _bytes(out)
    assert first["vectors.parquet"] == _bytes(trained[0])["vectors.parquet"]
    train(open_source(data), out, dataclasses.replace(config, seed=1))
    assert _bytes(out)["vectors.parquet"] != first["vectors.parquet"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


@pytest.mark.parametrize("folder", ["movielens", "shop"])
def test_a_handful_of_interactions_is_enough(folder: str, tiny_movielens: Path, tmp_path: Path) -> None:
    source = open_source(tiny_movielens.parent / folder)
    config = dataclasses.replace(CONFIG, over_arch=OverArchKind.NONE)
    metrics = train(source, tmp_path / "model", config)
    with pytest.raises(InvalidData, match="train without it: --over-arch none"):
        train(source, tmp_path / "other", CONFIG)
    assert set(metrics.rankings) == {"popularity", "ease", "towers, exact", "towers, index"}


def test_data_without_interactions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("id\n1\n")
    schema = 'surface = "s"\n[items]\nsource = "items.csv"\nid = "id"\n[tasks.view]\n'
    (tmp_path / "schema.toml").write_text(schema)
    with pytest.raises(InvalidData, match="has no interactions to train on"):
        train(open_source(tmp_path), tmp_path / "model", CONFIG)


def test_what_is_no_model_folder_is_not_replaced(data: Path) -> None:
    with pytest.raises(InvalidData, match="exists and is no model folder"):
        train(open_source(data), data, CONFIG)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="no CUDA device"):
        train(open_source(data), tmp_path / "model", dataclasses.replace(CONFIG, device="cuda"))
