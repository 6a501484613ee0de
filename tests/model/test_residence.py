from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from meshfold.model import residence
from meshfold.model.build import publish
from meshfold.model.data.catalog import Catalog
from meshfold.model.errors import SnapshotRefused
from meshfold.model.program import export_program, load_program
from meshfold.model.residence import (
    Residuals,
    check_room,
    device_bytes,
    reside,
    sizes_of,
    workspace_bytes,
)
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.snapshot import Snapshot
from meshfold.model.store import Store
from meshfold.model.user import ProgramTower

CatalogOf = Callable[..., Catalog]
N, D = 700, 8
CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Tower(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, D)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x)
        return out


@pytest.fixture(scope="module")
def folder(catalog_of: CatalogOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    vectors = np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)
    return publish(catalog_of(vectors), Store(tmp_path_factory.mktemp("residence")))


@pytest.fixture
def model(folder: Path) -> RetrievalModel:
    model = RetrievalModel.of(Snapshot.open(folder))
    model.user = ProgramTower(load_program(export_program(Tower(), (torch.zeros(1, 3),)), "tower"))
    return model


def test_sizes_are_those_of_the_tensors(model: RetrievalModel) -> None:
    sizes = sizes_of(model)
    assert sizes["codes"] == sizes["residuals"] == N * D
    assert sizes["units"] == sizes["rows"] == sizes["popular"] == sizes["popularity"] == 4 * N
    assert sizes["programs"] == 4 * (3 * D + D)
    assert sizes["signature"] == model.filter.tensors().signature.numel() * 8
    assert sizes["columns"] > 0
    held = sum(t.numel() * t.element_size() for t in (*model.buffers(), *model.parameters()))
    assert device_bytes(sizes, Residuals.DEVICE) == held
    assert device_bytes(sizes, Residuals.HOST) == held - N * D


def test_a_workspace_grows_with_the_batch(model: RetrievalModel) -> None:
    sizes = [workspace_bytes(model.index, 2, batch, 10_000) for batch in (1, 16, 256)]
    assert sizes == sorted(sizes)
    assert sizes[0] > 256 << 20
    assert sizes[2] > 256 * 2 * 10_000 * 100


@pytest.mark.parametrize("chunk", [64, 1000, 1 << 26])
def test_what_was_mapped_is_copied_in_chunks(
    model: RetrievalModel, folder: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residence, "CHUNK_BYTES", chunk)
    seen: list[tuple[str, int, int]] = []
    before = dict(model.named_buffers())
    reside(model, CPU, Residuals.HOST, 0, lambda *told: seen.append(told))
    after = dict(model.named_buffers())
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor)
        assert after[name].dtype == tensor.dtype
        if tensor.numel() and not name.startswith("user"):
            assert after[name].data_ptr() != tensor.data_ptr(), f"{name} is still mapped"
    steps = [done for _, done, _ in seen]
    assert steps == sorted(set(steps))
    total = sum(sizes_of(model).values()) - sizes_of(model)["programs"]
    assert seen[-1] == ("copying to cpu", total, total)
    assert len(seen) >= total // chunk


def test_a_device_without_room_is_told_before_anything_moves(model: RetrievalModel) -> None:
    sizes = sizes_of(model) | {"codes": 10 << 30, "residuals": 10 << 30}
    device = torch.device("cuda:1")
    held = device_bytes(sizes, Residuals.DEVICE)
    check_room(sizes, Residuals.DEVICE, 1 << 30, held + (1 << 30), device)
    with pytest.raises(SnapshotRefused) as refused:
        check_room(sizes, Residuals.DEVICE, 1 << 30, 12 << 30, device)
    told = str(refused.value)
    for part in ("takes 20.00 GiB of cuda:1", "codes 10.00 GiB", "a batch 1.00 GiB", "12.00 GiB are free"):
        assert part in told
    assert "--residuals host, which takes 10.00 GiB less there" in told
    check_room(sizes, Residuals.HOST, 1 << 30, 12 << 30, device)
    with pytest.raises(SnapshotRefused, match=re.escape("takes 10.00 GiB of cuda:1")) as refused:
        check_room(sizes, Residuals.HOST, 1 << 30, 9 << 30, device)
    assert "--residuals host" not in str(refused.value)
    assert "residuals 10" not in str(refused.value)


@needs_gpu
@pytest.mark.parametrize("residuals", list(Residuals))
def test_everything_is_on_the_gpu_but_what_was_to_stay(
    model: RetrievalModel, residuals: Residuals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residence, "CHUNK_BYTES", 1000)
    before = {name: tensor.clone() for name, tensor in model.named_buffers()}
    reside(model, torch.device("cuda"), residuals, 0)
    for name, tensor in model.named_buffers():
        on_host = name.endswith("residuals") and residuals is Residuals.HOST
        assert tensor.device.type == ("cpu" if on_host else "cuda"), name
        assert tensor.is_pinned() == on_host
        assert torch.equal(tensor.cpu(), before[name]), name
    assert all(parameter.is_cuda for parameter in model.parameters())


@needs_gpu
def test_a_gpu_that_is_full_refuses(model: RetrievalModel) -> None:
    free, _ = torch.cuda.mem_get_info()
    with pytest.raises(SnapshotRefused, match="are free"):
        reside(model, torch.device("cuda"), Residuals.DEVICE, 2 * free)
    assert all(not tensor.is_cuda for tensor in model.buffers())
