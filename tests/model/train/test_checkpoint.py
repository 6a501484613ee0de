from pathlib import Path

import pytest
import torch

from meshfold.model.errors import InvalidConfig, InvalidData
from meshfold.model.train.checkpoint import Checkpoints


def test_what_was_saved_last_is_loaded(tmp_path: Path) -> None:
    saved = Checkpoints.open(tmp_path / "work", "one")
    assert saved.load("fit") is None
    for step in (1, 2):
        saved.save("fit", {"weights": torch.full((2, 3), step)}, {"step": step, "best": 0.1})
    saved.close()
    found = Checkpoints.open(tmp_path / "work", "one").load("fit")
    assert found is not None
    assert (found[0]["weights"].tolist(), found[1]) == ([[2] * 3] * 2, {"step": 2, "best": 0.1})


def test_another_fingerprint_starts_anew(tmp_path: Path) -> None:
    saved = Checkpoints.open(tmp_path, "one")
    saved.save("fit", {"weights": torch.ones(1)}, {})
    (tmp_path / "store" / "x").mkdir(parents=True)
    saved.close()
    assert Checkpoints.open(tmp_path, "two").load("fit") is None
    assert not (tmp_path / "store").exists()


def test_two_do_not_train_in_one_place(tmp_path: Path) -> None:
    saved = Checkpoints.open(tmp_path, "one")
    with pytest.raises(InvalidConfig, match="another process is training there"):
        Checkpoints.open(tmp_path, "one")
    saved.close()
    Checkpoints.open(tmp_path, "one").close()


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    saved = Checkpoints.open(tmp_path, "one")
    (tmp_path / "fit.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(InvalidData, match=r"fit\.safetensors: is no readable checkpoint .*; remove"):
        saved.load("fit")
    saved.close()
