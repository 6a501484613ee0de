"""The user tower of the mesh: users to query vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from meshfold.compat.mesh.items import Items
from meshfold.model.errors import InvalidQuery
from meshfold.model.inputs import HISTORY, PAD, encode_inputs, query_vectors
from meshfold.model.snapshot import USER_TOWER, Snapshot
from meshfold.model.types import Embeddings, EmbedQuery, Float32s, Int64s, User
from meshfold.model.user import HistoryMean, ProgramTower


@dataclass(frozen=True, eq=False)
class TowerInput:
    """A prepared user. vectors: [T, D] float32 of the request; None to run the tower.

    rows: of the newest items of the history, -1 for unknown ones. history: the keys of their ids (model/item_ids.py).
    told: whether the request has anything that the tower reads.
    """

    vectors: Float32s | None
    rows: Int64s
    history: Int64s
    inputs: Mapping[str, Int64s | Float32s]
    told: bool


class Tower:
    """The user tower of one snapshot. Thread-safe."""

    def __init__(self, snapshot: Snapshot, items: Items) -> None:
        self.schema = snapshot.schema
        self.version = snapshot.version
        self.surface = snapshot.schema.surface
        self.items = snapshot.content.items
        self.candidates = 0
        self._dimension = snapshot.content.dimension
        self._items = items
        program = snapshot.program(USER_TOWER)
        self._tower = (
            HistoryMean(len(self.schema.tasks)) if program is None else ProgramTower(program)
        ).eval()

    @classmethod
    def open(cls, folder: Path, surface: str) -> Self:
        """Opens a snapshot. Raises SnapshotRefused where the folder is not a whole snapshot of the surface."""
        snapshot = Snapshot.open(folder, surface)
        tower = cls(snapshot, Items(snapshot))
        # Run once, since the first run is slow.
        tower.embed([tower.prepare_embed(EmbedQuery(surface, (User(history=tower._items.first_id),)))])
        return tower

    def prepare_embed(self, query: EmbedQuery) -> list[TowerInput]:
        """Raises InvalidQuery where a user does not fit the schema."""
        prepared = []
        for place, user in enumerate(query.users):
            try:
                prepared.append(self.prepare(user))
            except InvalidQuery as error:
                raise error.within(f"users[{place}]") from None
        return prepared

    def prepare(self, user: User) -> TowerInput:
        """Raises InvalidQuery where the user does not fit the schema."""
        read = user.history[-HISTORY:]
        rows = self._items.ids.rows_of(read, "history")
        features = user.features
        return TowerInput(
            vectors=query_vectors(features, len(self.schema.tasks), self._dimension),
            rows=rows,
            history=self._items.ids.keys_of(read),
            inputs=encode_inputs(self.schema.inputs, features),
            told=bool((rows >= 0).any()) or any(len(features.get(i.name, ())) for i in self.schema.inputs),
        )

    def embed(self, batch: Sequence[Sequence[TowerInput]]) -> list[Embeddings]:
        """Answers a batch of queries; zeros for unknown users."""
        vectors = self.vectors([user for of_query in batch for user in of_query])
        ends = np.cumsum([len(of_query) for of_query in batch])
        return [Embeddings(self.schema.tasks, self.version, part) for part in np.split(vectors, ends[:-1])]

    def vectors(self, users: Sequence[TowerInput]) -> Float32s:
        """Query vectors: [users, T, D] float32; zeros for unknown users."""
        out = np.zeros((len(users), len(self.schema.tasks), self._dimension), np.float32)
        to_run = []
        for place, user in enumerate(users):
            if user.vectors is not None:
                out[place] = user.vectors
            elif user.told:
                to_run.append(place)
        if to_run:
            out[to_run] = self._run([users[place] for place in to_run])
        return out

    def _run(self, users: Sequence[TowerInput]) -> Float32s:
        rows = np.full((len(users), HISTORY), -1, np.int64)
        history = np.full((len(users), HISTORY), PAD, np.int64)
        for i, user in enumerate(users):
            rows[i, : len(user.rows)], history[i, : len(user.history)] = user.rows, user.history
        held = torch.from_numpy(rows)
        in_history = held >= 0
        with torch.inference_mode():
            vectors = self._tower(
                {
                    "history": torch.from_numpy(history),
                    "history_vectors": torch.where(
                        in_history.unsqueeze(-1), self._items.vectors_of(held), 0.0
                    ),
                    "in_history": in_history,
                    **{
                        i.name: torch.from_numpy(np.stack([user.inputs[i.name] for user in users]))
                        for i in self.schema.inputs
                    },
                }
            )
        numbers: Float32s = vectors.numpy()
        return numbers
