"""Facts of a mesh besides its answers: services that can be called, and the items of its index."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from meshfold.compat.ids import fill_ids, ids_of, plain
from meshfold.compat.mesh.orchestrator import merge
from meshfold.compat.mesh.order import Numbers
from meshfold.compat.mesh.part import Part, Request, Response
from meshfold.compat.mesh_v1 import embed, score, search
from meshfold.compat.shadow.catalog import Item
from meshfold.model.config import Merge
from meshfold.model.errors import Overloaded
from meshfold.model.types import QUERY_VECTOR, Float32s, Ids
from meshfold.protos.mesh.v1 import orchestrator_pb2, retrieval_pb2, scoring_pb2, types_pb2, user_tower_pb2

# Most users, vectors and items in a call; at most the limits of the mesh's services (model/limits.py).
_USERS, _VECTORS, _ITEMS = 64, 32, 10_000
# Seconds until an overloaded service is called again.
_WAITS_S = (0.1, 0.4, 1.6)


@dataclass(frozen=True)
class MeshFacts:
    """Facts of a mesh, given by the operator.

    tower, retrieval, scoring: addresses of the mesh's services; "" for one that cannot be called. candidates: number of
    candidates that the mesh ranks; 0 for the model's number. item_ids: items of the mesh's index; None where unknown.
    timeout_s: time limit of a call.
    """

    tower: str = ""
    retrieval: str = ""
    scoring: str = ""
    candidates: int = 0
    item_ids: frozenset[Item] | None = None
    timeout_s: float = 10.0


class MeshStages:
    """Calls the mesh's services in the same way as its orchestrator. Raises the errors of Part."""

    def __init__(self, facts: MeshFacts, schema_excludes_history: bool) -> None:
        self.facts = facts
        self._excludes_history = schema_excludes_history
        timeout_s = facts.timeout_s
        self._embed: Part[user_tower_pb2.EmbedRequest, user_tower_pb2.EmbedResponse] | None = None
        self._search: Part[retrieval_pb2.SearchRequest, retrieval_pb2.SearchResponse] | None = None
        self._score: Part[scoring_pb2.ScoreRequest, scoring_pb2.ScoreResponse] | None = None
        if facts.tower:
            self._embed = Part(
                "the user tower", facts.tower, embed.METHOD, user_tower_pb2.EmbedResponse, timeout_s
            )
        if facts.retrieval:
            self._search = Part(
                "retrieval", facts.retrieval, search.METHOD, retrieval_pb2.SearchResponse, timeout_s
            )
        if facts.scoring:
            self._score = Part("scoring", facts.scoring, score.METHOD, scoring_pb2.ScoreResponse, timeout_s)

    @property
    def embeds(self) -> bool:
        return self._embed is not None

    @property
    def searches(self) -> bool:
        return self._search is not None

    @property
    def scores(self) -> bool:
        return self._score is not None

    def close(self) -> None:
        for part in (self._embed, self._search, self._score):
            if part is not None:
                part.close()

    def vectors(self, surface: str, users: Sequence[types_pb2.UserContext]) -> Float32s:
        """Query vectors of users from the mesh's tower: [users, T, D] float32; zeros where the mesh knows nothing of a
        user."""
        assert self._embed is not None
        found: list[list[list[float]]] = []
        for start in range(0, len(users), _USERS):
            asked = user_tower_pb2.EmbedRequest(surface=surface, users=users[start : start + _USERS])
            response = _answer(self._embed, asked)
            found += [[list(e.values) for e in user.embeddings] for user in response.users]
        return np.array(found, np.float32)

    def found(
        self, request: orchestrator_pb2.RetrieveRequest, vectors: Float32s, depth: int, how: Merge
    ) -> list[Item]:
        """The candidates of a request, merged as by the orchestrator. vectors: [T, D] float32."""
        known = bool(vectors.any())
        asked = self._search_request(request, vectors if known else vectors[:1], depth)
        lists = self._searched(asked)
        if len(lists) == 1:
            return list(plain(lists[0][0]))
        numbers = Numbers([ids for ids, _ in lists])
        merged, _ = merge([(numbers.of(ids), s) for ids, s in lists], how, depth, request.max_results)
        return list(plain(numbers.ids_at(merged)))

    def reaches(
        self, request: orchestrator_pb2.RetrieveRequest, items: Sequence[Item], vectors: Float32s, k: int
    ) -> set[Item]:
        """The items that a search with their own vectors finds among its k nearest.

        request: gives filter and exclusions. vectors: [n, D] float32 - the items' vectors.
        """
        found: set[Item] = set()
        for start in range(0, len(items), _VECTORS):
            lists = self._searched(self._search_request(request, vectors[start : start + _VECTORS], k))
            found |= {i for i, (ids, _) in zip(items[start:], lists, strict=False) if i in set(plain(ids))}
        return found

    def _search_request(
        self, request: orchestrator_pb2.RetrieveRequest, vectors: Float32s, k: int
    ) -> retrieval_pb2.SearchRequest:
        asked = retrieval_pb2.SearchRequest(
            surface=request.surface,
            queries=[retrieval_pb2.QueryVector(values=v) for v in vectors.tolist()],
            excluded_item_ids=request.excluded_item_ids,
            excluded_item_keys=request.excluded_item_keys,
            k=k,
        )
        if request.HasField("filter"):
            asked.filter.CopyFrom(request.filter)
        if self._excludes_history:
            asked.excluded_item_ids.extend(request.user.history)
            asked.excluded_item_keys.extend(request.user.history_keys)
        return asked

    def _searched(self, asked: retrieval_pb2.SearchRequest) -> list[tuple[Ids, Float32s]]:
        assert self._search is not None
        response = _answer(self._search, asked)
        return [
            (ids_of("item_ids", n.item_ids, n.item_keys), np.array(n.similarities, np.float32))
            for n in response.neighbours
        ]

    def values(
        self, request: orchestrator_pb2.RetrieveRequest, vectors: Float32s, items: Collection[Item]
    ) -> dict[Item, float]:
        """Values of items for a request, without items unknown to scoring. vectors: [T, D] float32."""
        assert self._score is not None
        wanted = list(items)
        values: dict[Item, float] = {}
        for start in range(0, len(wanted), _ITEMS):
            asked = scoring_pb2.ScoreRequest(
                surface=request.surface,
                task_weights=request.task_weights,
                value_formula=request.value_formula,
            )
            part = wanted[start : start + _ITEMS]
            fill_ids(_ids(part), asked.item_ids, asked.item_keys)
            for name, feature in request.user.features.items():
                asked.user.features[name].CopyFrom(feature)
            asked.user.features[QUERY_VECTOR].floats.values[:] = vectors.ravel().tolist()
            response = _answer(self._score, asked)
            known = plain(ids_of("item_ids", response.item_ids, response.item_keys))
            values.update(zip(known, response.values, strict=True))
        return values


def _ids(items: Sequence[Item]) -> Ids:
    """Ids of one kind."""
    if items and isinstance(items[0], str):
        return tuple(str(item) for item in items)
    return np.array(items, np.int64)


def _answer(part: Part[Request, Response], request: Request) -> Response:
    """Calls a service; repeats the call after a pause where the service is overloaded."""
    for wait_s in _WAITS_S:
        try:
            return part(request, math.inf, _always)
        except Overloaded:
            time.sleep(wait_s)
    return part(request, math.inf, _always)


def _always() -> bool:
    return True
