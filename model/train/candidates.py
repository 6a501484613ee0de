"""Candidates of training from a published index with quantised vectors, the same as in serving."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from meshfold.kernels.filter.bundles import WORDS, count
from meshfold.kernels.filter.steps import FilterBatch, FilterTensors
from meshfold.kernels.search.merge import merge_tasks
from meshfold.kernels.search.ranked import ranked
from meshfold.model.build import publish
from meshfold.model.config import IndexConfig
from meshfold.model.data.catalog import Catalog
from meshfold.model.index.ivf import IvfIndex
from meshfold.model.inputs import HISTORY
from meshfold.model.progress import Progress
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.snapshot import Snapshot
from meshfold.model.store import Store
from meshfold.model.train.examples import NOTHING, Timelines
from meshfold.model.train.search import user_vectors
from meshfold.model.train.towers import UserTower
from meshfold.model.types import Float32s, Int64s

_USERS_AT_A_TIME = 32


@dataclass(frozen=True, eq=False)
class CandidateLists:
    """Candidates that the index returns for E examples, M each.

    user_vectors: [E, T, D] float32. places: [E, M] int64 - rows of the catalog by their largest similarity, best
    first, -1 after the last. similarities: [E, T, M] float32. found: for each task, [E, M] int64 - the places
    that its own search found, best first.
    """

    user_vectors: Tensor
    places: Tensor
    similarities: Tensor
    found: list[Int64s]

    def of(self, examples: Int64s) -> Self:
        """The lists of the given examples: [n] int64."""
        at = torch.from_numpy(examples)
        return type(self)(
            self.user_vectors[at], self.places[at], self.similarities[at], [f[examples] for f in self.found]
        )


class PublishedIndex:
    """The index of a snapshot that was published for training, by places in the catalog."""

    def __init__(self, index: IvfIndex, positions: Tensor, device: torch.device) -> None:
        self._index = index.to(device)
        self._positions = positions.to(device)
        self._places = torch.argsort(self._positions)
        self._device = device

    @classmethod
    def publish(
        cls, catalog: Catalog, vectors: Float32s, folder: Path, device: torch.device, progress: Progress
    ) -> Self:
        """Publishes the vectors and opens their index.

        vectors: [N, D] float32, in the order of the catalog. folder: a store to publish to.
        """
        store = Store(folder)
        snapshot = Snapshot.open(publish(catalog.with_array(vectors), store, IndexConfig(), progress))
        by_row = snapshot.items["positions"].numpy()
        rows = np.argsort(catalog.order(), kind="stable")
        return cls(RetrievalModel.of(snapshot).index, torch.from_numpy(by_row[rows]), device)

    def vectors(self, places: Tensor) -> Tensor:
        """[..., D] float32 - the quantised vectors. places: [...] int64; -1 gives the vector of some item."""
        return self._index.vectors(self._positions[places.clamp(min=0)])

    def candidates(
        self,
        tower: UserTower,
        timelines: Timelines,
        rows: Int64s,
        cuts: Int64s,
        max_candidates: int,
        exclude: bool,
        progress: Progress,
        stage: str,
    ) -> CandidateLists:
        """Candidates for the histories of users up to their cuts.

        rows: [E] int64 - indices into timelines.users. cuts: [E] int64 - interactions that the history holds.
        max_candidates: M. exclude: leave out the items of the history.
        """
        histories = timelines.histories(rows, cuts, HISTORY)
        users = user_vectors(tower, histories, self.vectors, self._device)
        parts = []
        for start in range(0, len(rows), _USERS_AT_A_TIME):
            progress(stage, start, len(rows))
            part = slice(start, start + _USERS_AT_A_TIME)
            met = [timelines.first(int(u), int(c)) for u, c in zip(rows[part], cuts[part], strict=True)]
            excluded = met if exclude else [met[0][:0]] * len(met)
            parts.append(self._search(users[part], excluded, max_candidates))
        progress(stage, len(rows), len(rows))
        places, similarities, found = (torch.cat(p) for p in zip(*parts, strict=True))
        return CandidateLists(users, places, similarities, [f.numpy() for f in found.transpose(0, 1)])

    def _search(
        self, users: Tensor, excluded: list[Int64s], max_candidates: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        items = len(self._positions)
        left_out = [self._positions[torch.from_numpy(places).to(self._device)] for places in excluded]
        everything = FilterBatch.everything(len(excluded), self._device)
        filters = replace(everything, excluded=pad_sequence(left_out, batch_first=True, padding_value=-1))
        unfiltered = FilterTensors(
            torch.empty((count(items), 0, WORDS), dtype=torch.int64, device=self._device), [], []
        )
        in_catalog = min(max_candidates, items)
        candidates = torch.full((len(users),), in_catalog, device=self._device)
        queries = self._index.quantize(users)
        found = self._index.search(users, unfiltered, filters, candidates, in_catalog).positions
        merged = merge_tasks(found).positions
        similarities = self._index.similarities(queries, merged)
        # The same order as in RetrievalModel: by the largest similarity, ties to the smaller item id.
        order = ranked(similarities.amax(1), merged, self._index.rows, max_candidates)
        kept, at = order.positions, order.places
        similarities = similarities.gather(2, at.unsqueeze(1).expand(-1, users.shape[1], -1))
        similarities = torch.where((kept >= 0).unsqueeze(1), similarities, 0.0)
        return (
            _padded(self._places_of(kept), max_candidates).cpu(),
            _padded(similarities, max_candidates, 0.0).cpu(),
            _padded(self._places_of(found), max_candidates).cpu(),
        )

    def _places_of(self, positions: Tensor) -> Tensor:
        return torch.where(positions >= 0, self._places[positions.clamp(min=0)], NOTHING)


def _padded(values: Tensor, width: int, filling: float = NOTHING) -> Tensor:
    return torch.nn.functional.pad(values, (0, width - values.shape[-1]), value=filling)
