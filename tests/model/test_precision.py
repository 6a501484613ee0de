"""The precision of an OverArch is chosen when a snapshot is built, and is part of its version."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from meshfold.model.build import publish
from meshfold.model.config import IndexConfig, Precision, PrecisionChoice
from meshfold.model.data.catalog import Catalog
from meshfold.model.data.interactions import Interactions
from meshfold.model.errors import InvalidData, SnapshotRefused
from meshfold.model.exports import export_over_arch
from meshfold.model.precision import Compared, SampleUsers, compare
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.snapshot import MANIFEST, OVER_ARCH, Snapshot
from meshfold.model.store import Store
from meshfold.model.types import Int64s

CatalogOf = Callable[..., Catalog]
N, D = 400, 32


class Score(nn.Module):
    """Scores by layers whose weights are `spread` apart: with far ones 8 bits tell little of the others."""

    def __init__(self, spread: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(D, 24), nn.Linear(24, 1)
        with torch.no_grad():
            self.first.weight[:, 0] *= spread

    def forward(self, users: Tensor, items: Tensor, similarities: Tensor) -> Tensor:
        # What the far weights meet is taken away again.
        far = torch.nn.functional.linear(items[..., :1], self.first.weight[:, :1])
        scores: Tensor = self.last(torch.relu(self.first(items) - far))
        return scores.transpose(1, 2) + similarities


class NoLayers(nn.Module):
    def forward(self, users: Tensor, items: Tensor, similarities: Tensor) -> Tensor:
        return similarities * 2.0 + items.sum(2).unsqueeze(1) + users.sum()


@pytest.fixture
def catalog(catalog_of: CatalogOf) -> Catalog:
    return catalog_of(np.random.default_rng(0).standard_normal((N, D)).astype(np.float32), np.arange(N) * 7)


def interactions(catalog: Catalog, users: int = 20, met: int = 10) -> Interactions:
    random = np.random.default_rng(1)
    ids: Int64s = np.concatenate([random.choice(catalog.item_ids, met, replace=False) for _ in range(users)])
    tasks = {task: np.ones(users * met, bool) for task in catalog.schema.tasks}
    return Interactions(np.repeat(np.arange(users), met), ids, np.tile(np.arange(met), users), tasks)


def built(
    catalog: Catalog, root: Path, module: nn.Module | None, precision: PrecisionChoice, known: bool = True
) -> Snapshot:
    programs = {} if module is None else {OVER_ARCH: export_over_arch(module, catalog.schema, D)}
    users = SampleUsers.of(catalog, interactions(catalog) if known else None)
    folder = publish(catalog, Store(root), IndexConfig(), programs=programs, precision=precision, users=users)
    return Snapshot.open(folder)


def test_auto_takes_integers_where_they_keep_results_and_ndcg(catalog: Catalog, tmp_path: Path) -> None:
    near = built(catalog, tmp_path / "near", Score(1.0), PrecisionChoice.AUTO)
    far = built(catalog, tmp_path / "far", Score(3000.0), PrecisionChoice.AUTO)
    told = near.built["precision"]
    assert (told["wanted"], told["users"], told["results"]) == ("auto", 20, 100)
    holds = told["kept"] >= 0.99 and told["ndcg_loss"] <= 0.001
    assert near.content.precision is (Precision.INT8 if holds else Precision.FLOAT32)
    assert far.built["precision"]["kept"] < 0.9
    assert far.content.precision is Precision.FLOAT32


@pytest.mark.parametrize(
    ("kept", "coded", "holds"), [(0.99, 0.4996, True), (0.989, 0.5, False), (1.0, 0.4994, False)]
)
def test_integers_hold_where_they_keep_99_of_100_and_lose_a_thousandth(
    kept: float, coded: float, holds: bool
) -> None:
    assert Compared(10, 1000, kept, 0.5, coded).holds is holds


def test_each_precision_can_be_forced_and_has_a_version_of_its_own(catalog: Catalog, tmp_path: Path) -> None:
    exact = built(catalog, tmp_path / "float32", Score(3000.0), PrecisionChoice.FLOAT32)
    coded = built(catalog, tmp_path / "int8", Score(3000.0), PrecisionChoice.INT8)
    assert (exact.content.precision, coded.content.precision) == (Precision.FLOAT32, Precision.INT8)
    assert exact.version != coded.version
    # As versions were before there was a precision.
    assert "precision" not in exact.content.to_json()
    assert "precision" not in exact.built
    assert coded.built["precision"]["kept"] < 0.9


def test_without_an_over_arch_there_is_nothing_to_choose(catalog: Catalog, tmp_path: Path) -> None:
    snapshots = [built(catalog, tmp_path / c, None, c) for c in PrecisionChoice]
    assert len({snapshot.version for snapshot in snapshots}) == 1
    assert all("precision" not in snapshot.built for snapshot in snapshots)


def test_without_held_out_interactions_auto_is_float32(catalog: Catalog, tmp_path: Path) -> None:
    snapshot = built(catalog, tmp_path / "a", Score(1.0), PrecisionChoice.AUTO, known=False)
    assert snapshot.content.precision is Precision.FLOAT32
    assert "no users" in snapshot.built["precision"]["reason"]
    forced = built(catalog, tmp_path / "b", Score(1.0), PrecisionChoice.INT8, known=False)
    assert forced.content.precision is Precision.INT8
    assert SampleUsers.of(catalog, interactions(catalog, met=1)) is None


def test_an_over_arch_without_layers_stays_in_float32(catalog: Catalog, tmp_path: Path) -> None:
    snapshot = built(catalog, tmp_path, NoLayers(), PrecisionChoice.AUTO)
    assert snapshot.content.precision is Precision.FLOAT32
    with pytest.raises(InvalidData, match="no linear layers .* --precision float32"):
        built(catalog, tmp_path, NoLayers(), PrecisionChoice.INT8)


def test_the_model_ranks_by_the_snapshots_precision(catalog: Catalog, tmp_path: Path) -> None:
    scores = []
    for precision in (PrecisionChoice.FLOAT32, PrecisionChoice.INT8):
        snapshot = built(catalog, tmp_path / precision, Score(1.0), precision)
        model = RetrievalModel.of(snapshot)
        users = torch.ones(1, len(catalog.schema.tasks), D)
        positions = torch.arange(50).unsqueeze(0)
        similarities = model.index.similarities(model.index.quantize(users), positions)
        args = (users, positions, similarities, model.index.vectors)
        scores.append(model.ranking(*args, model.index.coded))
        assert torch.equal(scores[-1], model.ranking(*args))
    assert not torch.equal(*scores)
    assert (scores[0] - scores[1]).std() < 0.05 * scores[0].std()


def test_users_are_compared_by_what_they_did_later(catalog: Catalog, tmp_path: Path) -> None:
    snapshot = built(catalog, tmp_path, Score(1.0), PrecisionChoice.FLOAT32)
    users = SampleUsers.of(catalog, interactions(catalog))
    assert users is not None
    assert [len(places) for places in users.histories] == [8] * 20
    assert all((held_out.counts == 2).all() for held_out in users.held_out)
    compared = compare(snapshot, users)
    assert compared.results == N // 4
    assert 0 < compared.ndcg_float32 < 1


@pytest.mark.parametrize("precision", ["float16", "int8", 8, None])
def test_a_precision_that_is_none_or_has_no_over_arch_is_refused(
    catalog: Catalog, tmp_path: Path, precision: object
) -> None:
    snapshot = built(catalog, tmp_path, None, PrecisionChoice.AUTO)
    path = snapshot.folder / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["content"]["precision"] = precision
    path.write_text(json.dumps(manifest))
    with pytest.raises(SnapshotRefused, match="publish the snapshot again"):
        Snapshot.open(snapshot.folder)
