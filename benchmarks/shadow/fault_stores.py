"""Stores with a fault in them: each is built from changed data, other weights or another setting."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from benchmarks.kept import made_whole
from meshfold.compat.mesh.items import Items
from meshfold.compat.mesh.nearest import open_ivf
from meshfold.model.build import publish
from meshfold.model.config import IndexConfig
from meshfold.model.data.source import open_source
from meshfold.model.exports import export_over_arch, export_user_tower
from meshfold.model.index.recall import measure
from meshfold.model.schema import Schema
from meshfold.model.snapshot import OVER_ARCH, USER_TOWER, Snapshot, write_manifest
from meshfold.model.store import Store
from meshfold.model.types import Float32s, Int64s

SURFACE = "generated"
# Shares of all items: absent from one index; newer than a stale catalog, which has as many retired items.
MISSING_SHARE, STALE_SHARE = 0.01, 0.03
# Fewer candidates than by default, so that what an index finds decides which items are ranked.
CONFIG = IndexConfig(candidates=300, recall_depth=300, target_recall=0.99)
# Survivors that a query scores: fewer than are calibrated for a catalog this small, of which all would be scored.
SCAN_BUDGET = 4000
OTHER_SEED = 11


@dataclass(frozen=True)
class Contents:
    """Contents of a store; each flag is a fault."""

    missing: bool = False
    stale: bool = False
    tower: bool = False
    head: bool = False
    fifth: bool = False

    @property
    def name(self) -> str:
        return "-".join(["store", *(name for name, on in vars(self).items() if on)])


class Tower(nn.Module):
    """The mean of the history's vectors, turned a little for each task."""

    turns: Tensor

    def __init__(self, tasks: int, dimension: int, seed: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        noise = torch.randn(tasks, dimension, dimension, generator=random) / dimension**0.5
        self.register_buffer("turns", torch.eye(dimension) + 0.15 * noise)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        held = inputs["in_history"].unsqueeze(-1).to(torch.float32)
        mean = (inputs["history_vectors"] * held).sum(1) / held.sum(1).clamp(min=1.0)
        return torch.einsum("bd,tde->bte", mean, self.turns)


class Heads(nn.Module):
    """A score for each task: the similarity, and what its head sees in user and item together."""

    heads: Tensor

    def __init__(self, tasks: int, dimension: int, seed: int, wrong: bool) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        heads = torch.randn(tasks, dimension, generator=random)
        if wrong:
            heads[-1] = torch.randn(dimension, generator=random)
        self.register_buffer("heads", heads)

    def forward(self, user_vectors: Tensor, item_vectors: Tensor, similarities: Tensor) -> Tensor:
        seen = torch.einsum("btd,bmd->btm", user_vectors * self.heads, item_vectors)
        return torch.sigmoid(2.0 * similarities + 0.5 * seen)


class Stores:
    """Builds stores in a folder at first use, from generated data."""

    def __init__(self, data: Path, folder: Path) -> None:
        self._data, self._folder = data, folder
        ids = pq.read_table(data / "items.parquet", columns=["item_id"])["item_id"].to_numpy()
        random = np.random.default_rng(3)
        shuffled: Int64s = random.permutation(np.sort(ids))
        stale, missing = round(STALE_SHARE * len(ids)), round(MISSING_SHARE * len(ids))
        self._new, self._retired = shuffled[:stale], shuffled[stale : 2 * stale]
        self._missing = shuffled[2 * stale : 2 * stale + missing]

    def data_of(self, of: Contents) -> Path:
        """The data of a catalog. A stale one lacks the newest items and has those that were retired since."""
        left_out = [self._new if of.stale else self._retired, *([self._missing] if of.missing else [])]

        def make(partial: Path) -> None:
            shutil.copytree(self._data, partial)
            items = pq.read_table(partial / "items.parquet")
            gone = pc.is_in(items["item_id"], pa.array(np.concatenate(left_out)))
            pq.write_table(items.filter(pc.invert(gone)), partial / "items.parquet")

        return made_whole(self._folder / f"data{'-stale' * of.stale}{'-missing' * of.missing}", make)

    def store_of(self, of: Contents) -> Path:
        def make(partial: Path) -> None:
            if of.fifth:
                built = newest(self.store_of(replace(of, fifth=False)))
                _with_budget(Snapshot.open(built), SCAN_BUDGET // 5, partial)
            else:
                catalog = open_source(self.data_of(of)).catalog()
                programs = _programs(catalog.schema, catalog.dimension, of)
                with tempfile.TemporaryDirectory(dir=self._folder) as scratch:
                    built = publish(catalog, Store(Path(scratch)), CONFIG, programs=programs)
                    _with_budget(Snapshot.open(built), SCAN_BUDGET, partial)

        return made_whole(self._folder / of.name, make)

    def indices_of(self, of: Contents) -> Path:
        """Faiss's files of the mesh for a store; with a fifth of the probes where that is the fault."""

        def make(partial: Path) -> None:
            snapshot = Snapshot.open(newest(self.store_of(replace(of, fifth=False))))
            vectors: Float32s = Items(snapshot).vectors.numpy()
            open_ivf(snapshot, vectors, partial, CONFIG.candidates)
            if of.fifth:
                (path,) = partial.glob("*.faiss")
                index = faiss.read_index(str(path))
                index.nprobe = max(1, index.nprobe // 5)
                faiss.write_index(index, str(path))

        return made_whole(self._folder / f"indices-{of.name}", make)


def newest(store: Path) -> Path:
    return Store(store).published(SURFACE)[0]


def _programs(schema: Schema, dimension: int, of: Contents) -> dict[str, bytes]:
    tasks = len(schema.tasks)
    tower = Tower(tasks, dimension, OTHER_SEED if of.tower else 1)
    return {
        USER_TOWER: export_user_tower(tower, schema, dimension),
        OVER_ARCH: export_over_arch(Heads(tasks, dimension, 2, of.head), schema, dimension),
    }


def _with_budget(snapshot: Snapshot, budget: int, folder: Path) -> None:
    """Publishes the snapshot with another scan budget, and the recall that is measured with it."""
    store = Store(folder)
    content = replace(snapshot.content, scan_budget=budget)
    with store.partial(SURFACE) as partial:
        for name in content.files:
            shutil.copyfile(snapshot.folder / name, partial / name)
        changed = replace(snapshot, content=content)
        write_manifest(partial, content, {**snapshot.built, "recall": measure(changed)})
        store.publish(SURFACE, partial, content.version)
