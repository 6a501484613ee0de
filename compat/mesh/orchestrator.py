"""The orchestrator of the mesh: calls user tower, retrieval and scoring, and joins their answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from meshfold.compat.ids import fill_ids, plain
from meshfold.compat.mesh.order import Numbers, best
from meshfold.compat.mesh.part import IsActive, Part
from meshfold.compat.mesh_v1 import embed, retrieve, score, search
from meshfold.compat.mesh_v1.messages import parse
from meshfold.compat.request_paths import SIBLINGS
from meshfold.model.config import Merge
from meshfold.model.errors import InvalidQuery, Unavailable
from meshfold.model.inputs import query_vectors
from meshfold.model.snapshot import Snapshot
from meshfold.model.types import QUERY_VECTOR, Candidates, Float32s, Ids, Int64s, Query
from meshfold.protos.mesh.v1 import orchestrator_pb2, retrieval_pb2, scoring_pb2, types_pb2, user_tower_pb2

METHOD = retrieve.METHOD
measure = retrieve.measure
_KNOWN, _UNKNOWN = "known", "nothing known: the most popular eligible items"


@dataclass(frozen=True, eq=False)
class DecodedRequest:
    """A request, as a message and decoded."""

    request: orchestrator_pb2.RetrieveRequest
    query: Query


def decode(message: bytes) -> DecodedRequest:
    """Decodes a request. Raises InvalidQuery."""
    request = parse(orchestrator_pb2.RetrieveRequest, message)
    return DecodedRequest(request, retrieve.query_of(request))


def path(decoded: DecodedRequest, path: str) -> str:
    """Translates the path of a part of the query into a path of the request."""
    return retrieve.path(decoded.query, path)


@dataclass(frozen=True, eq=False)
class Found:
    """Candidates. ids: [M]. numbers: [M] int64 in the order of ids (order.Numbers). similarities: [M] float32, the
    largest over the tasks."""

    ids: Ids
    numbers: Int64s
    similarities: Float32s

    def at(self, places: Int64s) -> Self:
        """The candidates at some places: [m] int64."""
        ids = self.ids
        chosen = tuple([ids[p] for p in places.tolist()]) if isinstance(ids, tuple) else ids[places]
        return type(self)(chosen, self.numbers[places], self.similarities[places])


class Parts:
    """The three services behind an orchestrator."""

    def __init__(self, tower: str, retrieval: str, scoring: str, timeout_s: float) -> None:
        """tower, retrieval, scoring: addresses. timeout_s: time limit of each answer, where the caller's deadline is
        later."""
        self.embed: Part[user_tower_pb2.EmbedRequest, user_tower_pb2.EmbedResponse] = Part(
            "the user tower", tower, embed.METHOD, user_tower_pb2.EmbedResponse, timeout_s
        )
        self.search: Part[retrieval_pb2.SearchRequest, retrieval_pb2.SearchResponse] = Part(
            "retrieval", retrieval, search.METHOD, retrieval_pb2.SearchResponse, timeout_s
        )
        self.score: Part[scoring_pb2.ScoreRequest, scoring_pb2.ScoreResponse] = Part(
            "scoring", scoring, score.METHOD, scoring_pb2.ScoreResponse, timeout_s
        )


@dataclass
class _Call:
    """The state of a call: its deadline, the parts' versions, and the time of each step."""

    deadline_s: float
    is_active: IsActive
    versions: types_pb2.Versions = field(default_factory=types_pb2.Versions)
    explain: dict[str, str] = field(default_factory=dict)
    _since_s: float = field(default_factory=time.perf_counter)

    def took(self, step: str) -> None:
        now_s = time.perf_counter()
        self.explain[f"{step}_ms"] = f"{(now_s - self._since_s) * 1000:.3f}"
        self._since_s = now_s


class Orchestrator:
    """The orchestrator of one surface. Thread-safe."""

    def __init__(self, snapshot: Snapshot, parts: Parts, candidates: int) -> None:
        self.schema = snapshot.schema
        self.version = snapshot.version
        self._content = snapshot.content
        self._ids = snapshot.item_ids()
        self._parts = parts
        self._candidates = candidates or self._content.config.candidates_on("cpu")

    @classmethod
    def open(cls, folder: Path, surface: str, parts: Parts, candidates: int) -> Self:
        """Opens a snapshot. candidates: number to find and score; 0 for the model's number on a CPU.

        Raises SnapshotRefused where the folder is not a whole snapshot of the surface.
        """
        return cls(Snapshot.open(folder, surface), parts, candidates)

    def retrieve(self, decoded: DecodedRequest, deadline_s: float, is_active: IsActive) -> bytes:
        """The bytes of the RetrieveResponse.

        deadline_s: on time.monotonic()'s clock; inf for none. Raises InvalidQuery and UnknownName of the services, and
        the other errors of Part.
        """
        call = _Call(deadline_s, is_active)
        # Refuses ids of the wrong kind; checking one suffices, since a list has one kind.
        self._ids.rows_of(decoded.query.excluded_ids[:1], path(decoded, "excluded_ids"))
        self._ids.rows_of(decoded.query.history[:1], path(decoded, "history"))
        vectors = self._vectors(decoded, call)
        candidates = self._scored(decoded, vectors, self._found(decoded, vectors, call), call)
        return retrieve.encode(decoded.query, candidates, call.versions)

    def _vectors(self, decoded: DecodedRequest, call: _Call) -> Float32s:
        """Query vectors [T, D] float32: the request's, else the tower's; zeros where nothing is known of the user."""
        t = len(self.schema.tasks)
        try:
            given = query_vectors(decoded.query.features, t, self._content.dimension)
        except InvalidQuery as error:
            raise InvalidQuery(path(decoded, error.path), error.message) from None
        if given is not None:
            return given
        request = user_tower_pb2.EmbedRequest(surface=self.schema.surface, users=[decoded.request.user])
        try:
            response = self._parts.embed(request, call.deadline_s, call.is_active)
        except InvalidQuery as error:
            # The tower's path begins with the index of the user.
            raise InvalidQuery(error.path.replace("users[0].", "user.", 1), error.message) from None
        call.versions.user_tower = response.version
        call.took("embed")
        vectors = np.array([e.values for e in response.users[0].embeddings], np.float32)
        if vectors.ndim != 2 or len(vectors) != t:
            raise Unavailable(
                f"the user tower gave {list(vectors.shape)} for {t} tasks; deploy one that fits"
            )
        return vectors

    def _found(self, decoded: DecodedRequest, vectors: Float32s, call: _Call) -> Found:
        query = decoded.query
        known = bool(vectors.any())
        call.explain["user"] = _KNOWN if known else _UNKNOWN
        depth = min(max(self._candidates, query.max_results + query.max_results // 4), self._content.items)
        request = retrieval_pb2.SearchRequest(
            surface=self.schema.surface,
            # Popular items are the same for every task.
            queries=[
                retrieval_pb2.QueryVector(values=v) for v in (vectors if known else vectors[:1]).tolist()
            ],
            excluded_item_ids=decoded.request.excluded_item_ids,
            excluded_item_keys=decoded.request.excluded_item_keys,
            k=depth,
        )
        if decoded.request.HasField("filter"):
            request.filter.CopyFrom(decoded.request.filter)
        if self.schema.exclude_history:
            request.excluded_item_ids.extend(decoded.request.user.history)
            request.excluded_item_keys.extend(decoded.request.user.history_keys)
        try:
            response = self._parts.search(request, call.deadline_s, call.is_active)
        except InvalidQuery as error:
            if error.path.startswith("filter"):
                raise
            raise Unavailable(f"retrieval refuses what the user tower gave: {error}") from None
        call.versions.index = call.versions.filter = response.version
        call.took("search")
        lists: list[Ids] = [tuple(n.item_keys) or np.array(n.item_ids, np.int64) for n in response.neighbours]
        numbers = Numbers(lists)
        found = [
            (numbers.of(ids), np.array(n.similarities, np.float32))
            for ids, n in zip(lists, response.neighbours, strict=True)
        ]
        if len(found) == 1:
            return Found(lists[0], *found[0])
        merged = merge(found, self._content.config.merge, depth, query.max_results)
        return Found(numbers.ids_at(merged[0]), *merged)

    def _scored(self, decoded: DecodedRequest, vectors: Float32s, found: Found, call: _Call) -> Candidates:
        """The best of the candidates, in order."""
        given = decoded.request
        request = scoring_pb2.ScoreRequest(
            surface=self.schema.surface,
            task_weights=given.task_weights,
            value_formula=given.value_formula,
        )
        fill_ids(found.ids, request.item_ids, request.item_keys)
        for name, feature in given.user.features.items():
            request.user.features[name].CopyFrom(feature)
        # Passes the tower's result, so that scoring does not run it again.
        request.user.features[QUERY_VECTOR].floats.values[:] = vectors.ravel().tolist()
        try:
            response = self._parts.score(request, call.deadline_s, call.is_active)
        except InvalidQuery as error:
            if QUERY_VECTOR in error.path:
                raise Unavailable(f"scoring refuses what the user tower gave: {error}") from None
            if error.path.startswith(SIBLINGS["item_ids"]):
                raise Unavailable(f"scoring refuses what retrieval found: {error}") from None
            raise
        call.versions.scoring = response.version
        call.took("score")
        values = np.array(response.values, np.float32)
        scores = np.array(response.task_scores, np.float32).reshape(len(values), len(response.tasks))
        unknown = {*response.unknown_item_ids, *response.unknown_item_keys}
        if unknown:
            # Index and scorer may have different versions of the catalog.
            known = [item_id not in unknown for item_id in plain(found.ids)]
            found = found.at(np.flatnonzero(known))
            call.explain["unknown_to_scoring"] = str(len(unknown))
        call.explain["candidates"] = str(len(found.numbers))
        places = best(found.numbers, values, decoded.query.max_results)
        found = found.at(places)
        return Candidates(
            tasks=tuple(response.tasks),
            version=response.version,
            item_ids=found.ids,
            values=values[places],
            similarities=found.similarities,
            task_scores=scores[places],
            explain=call.explain if decoded.query.explain else {},
        )


def merge(
    found: Sequence[tuple[Int64s, Float32s]], how: Merge, depth: int, wanted: int
) -> tuple[Int64s, Float32s]:
    """Merges the candidates of several tasks, best first, with their largest similarities: the `depth` best, or the
    intersection of the tasks, filled up to `wanted`.

    A similarity that a task did not report is below its `depth` best, so that it changes nothing.
    """
    ids, place, count = np.unique(
        np.concatenate([ids for ids, _ in found]), return_inverse=True, return_counts=True
    )
    largest = np.full(len(ids), -np.inf, np.float32)
    np.maximum.at(largest, place, np.concatenate([similarities for _, similarities in found]))
    order = best(ids, largest, len(ids))
    if how is Merge.INTERSECTION:
        common = count[order] == len(found)
        missing = max(0, wanted - int(common.sum()))
        order = order[common | (np.cumsum(~common) <= missing)]
    return ids[order[:depth]], largest[order[:depth]]
