"""A pair that can be attributed: its request in all forms, and both answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from meshfold.compat.shadow.catalog import Item
from meshfold.compat.shadow.pairs import SideAnswer
from meshfold.model.types import Query
from meshfold.protos.mesh.v1 import orchestrator_pb2


@dataclass(frozen=True)
class Question:
    """A pair to attribute. k: requested number of results."""

    request: orchestrator_pb2.RetrieveRequest
    query: Query
    mesh: SideAnswer
    model: SideAnswer

    @property
    def k(self) -> int:
        return self.query.max_results

    @cached_property
    def mesh_items(self) -> frozenset[Item]:
        return frozenset(self.mesh.item_ids)

    @cached_property
    def model_items(self) -> frozenset[Item]:
        return frozenset(self.model.item_ids)

    @cached_property
    def differing(self) -> frozenset[Item]:
        """Items that are in only one answer."""
        return self.mesh_items ^ self.model_items

    @cached_property
    def mesh_scores(self) -> dict[Item, float]:
        """The mesh's scores by item; empty where unknown."""
        return scores_of(self.mesh)

    @cached_property
    def model_scores(self) -> dict[Item, float]:
        return scores_of(self.model)


def scores_of(answer: SideAnswer) -> dict[Item, float]:
    """An answer's scores by item, the first where an item is repeated; empty where some item has no score."""
    if len(answer.scores) != len(answer.item_ids):
        return {}
    return dict(zip(reversed(answer.item_ids), reversed(answer.scores), strict=True))
