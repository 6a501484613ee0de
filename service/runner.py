"""Runs one loaded snapshot on its devices: prepares queries, runs forward passes or parts of them, makes answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from meshfold.model.batch import QueryBatch, Results
from meshfold.model.program import use_ieee_floats
from meshfold.model.progress import Progress, silent
from meshfold.model.ranking import TILE
from meshfold.model.residence import Residuals, reside, workspace_bytes
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.sharded import ShardedModel
from meshfold.model.snapshot import Snapshot
from meshfold.model.types import (
    Candidates,
    Embeddings,
    EmbedQuery,
    Ids,
    Int64s,
    Neighbours,
    Query,
    ScoreQuery,
    Scores,
    SearchQuery,
)
from meshfold.service.answers import Answers
from meshfold.service.collation import Collation
from meshfold.service.devices import devices_of
from meshfold.service.graphs import Graphs
from meshfold.service.preparation import Preparation
from meshfold.service.prepared import PreparedQuery, PreparedScore, PreparedSearch, PreparedUser

Prepared = TypeVar("Prepared")
Answer = TypeVar("Answer")
Batch = TypeVar("Batch")

# Most users in one pass of a tower, which bounds its memory.
_USERS_AT_ONCE = 256


class Runner:
    """Answers queries from one snapshot, on any thread. Queries must have been checked (see service/preparation.py).

    surface, version, schema: the snapshot's. items: number of items. candidates: the fewest candidates of a query.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        device: str = "cpu",
        residuals: str = "device",
        max_batch: int = 32,
        cuda_graphs: int = 32,
        progress: Progress = silent,
        denied: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        """residuals: their memory on a GPU, by the names of model/residence.py. max_batch: most queries of a batch, for
        which the device must have memory. cuda_graphs: most graphs (service/graphs.py). denied: returns the denied ids
        (service/denied.py)."""
        self.schema = snapshot.schema
        self.surface = snapshot.schema.surface
        self.version = snapshot.version
        self._content = snapshot.content
        devices = devices_of(device)
        self._device = devices[0]
        self._on_cuda = self._device.type == "cuda"
        self.candidates = self._content.config.candidates_on(self._device.type)
        self.items = self._content.items
        self._ids = snapshot.item_ids()
        self._preparation = Preparation(snapshot, self.candidates, self._on_cuda, denied)
        self._collation = Collation(self.schema, self._content.dimension)
        # On a GPU passes run one at a time; on a CPU they run in parallel.
        self._turn: AbstractContextManager[Any] = threading.Lock() if self._on_cuda else nullcontext()
        self.model: RetrievalModel | ShardedModel
        self._forward: Callable[[QueryBatch], Results]
        if self._on_cuda:
            use_ieee_floats()
        if len(devices) > 1:
            self._forward = self.model = ShardedModel.of(snapshot, devices).eval()
        else:
            self._forward = self.model = model = RetrievalModel.of(snapshot).eval()
            if self._on_cuda:
                # GPU kernels do not read the filter's lists.
                model.filter.drop_lists()
                workspace = workspace_bytes(
                    model.index, len(self.schema.tasks), max_batch, self._preparation.depth(self.candidates)
                )
                # Graphs have their own memory pool, besides that of passes which run operation by operation.
                workspace *= 2 if cuda_graphs else 1
                reside(model, self._device, Residuals(residuals), workspace, progress)
                self._forward = Graphs(model, self._device, cuda_graphs)
            else:
                model.index.in_huge_pages()
        self._answers = Answers(snapshot, self._preparation.compiler, self.model.plan)

    @classmethod
    def open(
        cls,
        folder: Path,
        surface: str,
        device: str = "cpu",
        residuals: str = "device",
        max_batch: int = 32,
        cuda_graphs: int = 32,
        progress: Progress = silent,
        denied: Callable[[], tuple[str, ...]] = tuple,
    ) -> Self:
        """Loads a snapshot. Raises SnapshotRefused where the folder is not a whole snapshot of the surface, or too
        large."""
        snapshot = Snapshot.open(folder, surface)
        runner = cls(snapshot, device, residuals, max_batch, cuda_graphs, progress, denied)
        runner._warm_up(snapshot.item_ids().at(np.zeros(1, np.int64)))
        return runner

    def holds(self, item_ids: Sequence[str]) -> list[bool]:
        """Returns for each item whether the snapshot has it. item_ids: text; integer ids in decimal digits."""
        return self._preparation.denied.holds(item_ids)

    def some_ids(self, rows: Int64s) -> Ids:
        """The item ids of rows."""
        return self._ids.at(rows)

    def prepare(self, query: Query) -> PreparedQuery:
        """Raises InvalidQuery where the query does not fit the schema, UnknownName for an unknown formula."""
        return self._preparation.query(query)

    def collate(self, batch: Sequence[PreparedQuery]) -> QueryBatch:
        """Collates queries into a batch for the model, in host memory."""
        return self._collation.queries(batch)

    def run(self, batch: Sequence[PreparedQuery]) -> list[Candidates]:
        """Runs one forward pass for queries that this runner prepared."""
        collated = self.collate(batch)
        with self._turn, torch.inference_mode():
            results = self._forward(collated)
        return [self._answers.candidates(prepared, results, i) for i, prepared in enumerate(batch)]

    def prepare_embed(self, query: EmbedQuery) -> list[PreparedUser]:
        """Raises InvalidQuery where a user does not fit the schema."""
        return self._preparation.embed(query)

    def embed(self, batch: Sequence[Sequence[PreparedUser]]) -> list[Embeddings]:
        """Runs the user tower alone."""
        users = [user for of_query in batch for user in of_query]
        parts = [np.empty((0, len(self.schema.tasks), self._content.dimension), np.float32)]
        with self._turn, torch.inference_mode():
            for start in range(0, len(users), _USERS_AT_ONCE):
                vectors, known = self.model.embed(
                    self._moved(self._collation.users(users[start : start + _USERS_AT_ONCE]))
                )
                parts.append(torch.where(known[:, None, None], vectors, 0.0).cpu().numpy())
        ends = np.cumsum([len(of_query) for of_query in batch])
        each = np.split(np.concatenate(parts), ends[:-1])
        return [Embeddings(self.schema.tasks, self.version, vectors) for vectors in each]

    def prepare_search(self, query: SearchQuery) -> PreparedSearch:
        """Raises InvalidQuery where the query does not fit the schema."""
        return self._preparation.search(query)

    def search(self, batch: Sequence[PreparedSearch]) -> list[Neighbours]:
        """Runs index and filter alone. Queries with the same number of vectors run together, since padding costs a
        search."""
        return _by_size(batch, lambda prepared: len(prepared.queries), self._search)

    def _search(self, batch: Sequence[PreparedSearch]) -> list[Neighbours]:
        if not len(batch[0].queries):
            return [Neighbours(self.version, (), ()) for _ in batch]
        with self._turn, torch.inference_mode():
            nearest = self.model.search(self._moved(self._collation.search(batch)))
        found = zip(nearest.positions.cpu().numpy(), nearest.similarities.cpu().numpy(), strict=True)
        return [self._answers.neighbours(positions, similarities) for positions, similarities in found]

    def prepare_score(self, query: ScoreQuery) -> PreparedScore:
        """Raises InvalidQuery where the query does not fit the schema, UnknownName for an unknown formula."""
        return self._preparation.score(query)

    def score(self, batch: Sequence[PreparedScore]) -> list[Scores]:
        """Runs ranking and value alone. Queries with the same number of tiles run together."""
        return _by_size(batch, lambda prepared: -(-len(prepared.positions) // TILE), self._score)

    def _score(self, batch: Sequence[PreparedScore]) -> list[Scores]:
        with self._turn, torch.inference_mode():
            values, task_scores = self.model.score(self._moved(self._collation.scores(batch)))
        each = zip(batch, values.cpu().numpy(), task_scores.transpose(1, 2).cpu().numpy(), strict=True)
        return [self._answers.scores(prepared, of_query, scores) for prepared, of_query, scores in each]

    def _warm_up(self, history: Ids) -> None:
        """Runs each module once, since a first pass is slow and no caller should wait for it."""
        known, unknown = Query(self.surface, 1, history=history), Query(self.surface, 1)
        self.run([self.prepare(known), self.prepare(unknown)])

    def _moved(self, batch: Batch) -> Batch:
        """The batch on the model's device."""
        if not self._on_cuda:
            return batch
        moved: Batch = tree_map_only(Tensor, lambda tensor: tensor.to(self._device), batch)
        return moved


def _by_size(
    batch: Sequence[Prepared],
    size: Callable[[Prepared], int],
    run: Callable[[Sequence[Prepared]], Sequence[Answer]],
) -> list[Answer]:
    """Runs queries of equal size together; returns the answers in the order of the batch."""
    places: dict[int, list[int]] = {}
    for place, prepared in enumerate(batch):
        places.setdefault(size(prepared), []).append(place)
    answers = {
        place: answer
        for of_size in places.values()
        for place, answer in zip(of_size, run([batch[place] for place in of_size]), strict=True)
    }
    return [answers[place] for place in range(len(batch))]
