"""The scoring service of the mesh: values of given items for a user.

It has the vectors of all items in memory, in float32, and gathers those of a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from meshfold.compat.mesh.items import Items
from meshfold.compat.mesh.tower import Tower, TowerInput
from meshfold.model.filter.module import EligibilityFilter
from meshfold.model.item_ids import select
from meshfold.model.ranking import ProgramRanking, SimilarityRanking
from meshfold.model.schema import FieldKind
from meshfold.model.snapshot import OVER_ARCH, Snapshot
from meshfold.model.types import Ids, Int64s, ScoreQuery, Scores, User
from meshfold.model.value.formulas import ValueQuery
from meshfold.model.value.module import ValueModel


@dataclass(frozen=True, eq=False)
class ScoringInput:
    """A prepared scoring. item_ids: [M], rows: [M] int64 - of known items. unknown_ids: the other ids."""

    user: TowerInput
    item_ids: Ids
    rows: Int64s
    unknown_ids: Ids
    value: ValueQuery


class Scoring:
    """OverArch and value formulas of one snapshot. Thread-safe."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.schema = snapshot.schema
        self.version = snapshot.version
        self.surface = snapshot.schema.surface
        self.items = snapshot.content.items
        self.candidates = 0
        self._items = Items(snapshot)
        # For requests with a user in place of query vectors.
        self._tower = Tower(snapshot, self._items)
        self._formulas = snapshot.content.value
        program = snapshot.program(OVER_ARCH)
        self._ranking = (
            SimilarityRanking() if program is None else ProgramRanking(program, snapshot.content.precision)
        )
        self._value = ValueModel()
        self._popularity = torch.from_numpy(self._items.popularity)
        self._numbers, self._present = _numbers(snapshot, self._items)

    @classmethod
    def open(cls, folder: Path, surface: str) -> Self:
        """Opens a snapshot. Raises SnapshotRefused where the folder is not a whole snapshot of the surface."""
        scoring = cls(Snapshot.open(folder, surface))
        ids = scoring._items.first_id
        # Run once, since the first run is slow.
        scoring.score([scoring.prepare_score(ScoreQuery(surface, User(history=ids), ids))])
        return scoring

    def prepare_score(self, query: ScoreQuery) -> ScoringInput:
        """Raises InvalidQuery where the query does not fit the schema, UnknownName for an unknown formula."""
        rows = self._items.ids.rows_of(query.item_ids, "item_ids")
        known = rows >= 0
        return ScoringInput(
            user=self._tower.prepare(query.user),
            item_ids=select(query.item_ids, known),
            rows=rows[known],
            unknown_ids=select(query.item_ids, ~known),
            value=self._formulas.prepare(query.value_formula, query.task_weights, query.user.features),
        )

    def score(self, batch: Sequence[ScoringInput]) -> list[Scores]:
        """Answers a batch of queries."""
        users = torch.from_numpy(self._tower.vectors([query.user for query in batch]))
        with torch.inference_mode():
            return [self._score(user, query) for user, query in zip(users, batch, strict=True)]

    def _score(self, user: Tensor, query: ScoringInput) -> Scores:
        """Scores items for a user. user: [T, D] float32; zeros where nothing is known."""
        rows = torch.from_numpy(query.rows)
        if user.any():
            similarities = user @ self._items.vectors_of(rows).T
            scores = self._ranking(
                user.unsqueeze(0), rows.unsqueeze(0), similarities.unsqueeze(0), self._items.vectors_of
            )
        else:
            similarities = self._popularity[rows].expand(len(user), -1)
            scores = similarities.unsqueeze(0)
        values = self._value(
            torch.from_numpy(query.value.steps).unsqueeze(0),
            torch.from_numpy(query.value.constants).unsqueeze(0),
            scores,
            similarities.amax(0, keepdim=True),
            self._numbers[:, rows].unsqueeze(0),
            self._present[:, rows].unsqueeze(0),
        )
        return Scores(
            tasks=self.schema.tasks,
            version=self.version,
            item_ids=query.item_ids,
            values=values[0].numpy(),
            task_scores=scores[0].T.numpy(),
            unknown_ids=query.unknown_ids,
        )


def _numbers(snapshot: Snapshot, items: Items) -> tuple[Tensor, Tensor]:
    """The fields that formulas read, by row: (numbers: [F, N] float64, present: [F, N] bool)."""
    fields = snapshot.schema.filterable
    names = [f.name for f in fields]
    held = EligibilityFilter(
        len(items),
        snapshot.filter["signature"],
        *snapshot.columns(),
        [f.kind is FieldKind.NUMBER for f in fields],
    )
    wanted = [names.index(name) for name in snapshot.content.value.fields]
    numbers, present = held.numbers_at(wanted, items.by_row(torch.arange(len(items))).unsqueeze(0))
    return numbers[0], present[0]
