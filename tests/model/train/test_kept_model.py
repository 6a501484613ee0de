from collections.abc import Callable
from pathlib import Path
from shutil import copytree, rmtree

import pytest

from meshfold.model.data.source import open_source
from meshfold.model.errors import InvalidData
from meshfold.model.progress import silent
from meshfold.model.train import kept_model
from meshfold.model.train.config import TrainConfig
from meshfold.model.train.kept_model import hash_of_inputs, inputs_of_kept, trained_model


def _hash(data: Path, config: TrainConfig | None = None) -> str:
    return hash_of_inputs(data, config or TrainConfig(), silent)


@pytest.fixture
def shop(tiny_shop: Path, tmp_path: Path) -> Path:
    return Path(copytree(tiny_shop, tmp_path / "shop"))


def test_equal_inputs_hash_alike_wherever_they_lie(shop: Path, tiny_shop: Path) -> None:
    before = _hash(shop)
    for file in shop.iterdir():
        file.touch()
    (shop / "notes.txt").write_text("not read")
    assert _hash(shop) == before == _hash(tiny_shop) == _hash(shop / "schema.toml")


@pytest.mark.parametrize("name", ["schema.toml", "items.csv", "events.csv"])
def test_a_byte_of_any_file_counts(shop: Path, name: str) -> None:
    before = _hash(shop)
    (shop / name).write_bytes((shop / name).read_bytes() + b"\n")
    assert _hash(shop) != before


def test_a_byte_that_moves_to_the_next_file_counts(tiny_movielens: Path, tmp_path: Path) -> None:
    data = Path(copytree(tiny_movielens, tmp_path / "m"))
    before = _hash(data)
    movies, ratings = data / "movies.csv", data / "ratings.csv"
    ratings.write_bytes(movies.read_bytes()[-1:] + ratings.read_bytes())
    movies.write_bytes(movies.read_bytes()[:-1])
    assert _hash(data) != before


def test_settings_and_versions_count(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _hash(shop)
    assert _hash(shop, TrainConfig(seed=1)) != before
    monkeypatch.setattr(kept_model, "own_version", lambda: "another")
    assert _hash(shop) != before


def test_a_model_is_kept_while_its_inputs_are_the_same(tiny_movielens: Path, tmp_path: Path) -> None:
    data, home = Path(copytree(tiny_movielens, tmp_path / "m")), tmp_path / "home"

    def model() -> tuple[int, bool]:
        """Which model it is, and whether it was kept."""
        made = trained_model(data, open_source(data), home, silent)
        assert made.folder == home / "model"
        return (home / "model" / "vectors.parquet").stat().st_ino, made.metrics is None

    first, was_kept = model()
    assert not was_kept
    assert model() == (first, True)
    assert sorted(p.name for p in home.iterdir()) == ["model", "model.json"]

    breaks: list[Callable[[Path], object]] = [
        lambda at: (at / "model" / "metrics.json").unlink(),
        lambda at: (at / "model" / "vectors.parquet").write_bytes(b"PAR1"),
        lambda at: (at / "model" / "over_arch.pt2").touch(),
        lambda at: (at / "model.json").write_text("{"),
        lambda at: (at / "model.json").write_text("[]"),
        lambda at: (at / "model.json").write_bytes(b"\xff"),
        lambda at: (at / "model.json").unlink(),
        lambda at: rmtree(at / "model"),
    ]
    for place, change in enumerate(breaks):
        broken = Path(copytree(home, tmp_path / f"broken-{place}"))
        assert inputs_of_kept(broken / "model", broken / "model.json") is not None
        change(broken)
        assert inputs_of_kept(broken / "model", broken / "model.json") is None

    # A broken model, and other data.
    (home / "model" / "metrics.json").unlink()
    (data / "ratings.csv").write_text((data / "ratings.csv").read_text() + "3,3,1.0,2000\n")
    second, was_kept = model()
    assert not was_kept
    assert model() == (second, True)


def test_a_training_that_fails_leaves_nothing_that_counts_as_kept(shop: Path, tmp_path: Path) -> None:
    schema = (shop / "schema.toml").read_text()
    (shop / "events.csv").write_text("user,item_id,kind,amount,at\n")
    (shop / "schema.toml").write_text(schema)
    for _ in range(2):
        with pytest.raises(InvalidData, match="no interactions to train on"):
            trained_model(shop, open_source(shop), tmp_path / "home", silent)
    assert not (tmp_path / "home" / "model.json").exists()
