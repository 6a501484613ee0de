"""Answers by the generated classes of protobuf: messages are filled value by value, then serialised."""

from __future__ import annotations

from typing import Any

import numpy as np

from meshfold.compat import meshfold_v1
from meshfold.compat.ids import fill_ids, plain
from meshfold.compat.mesh_v1 import retrieve
from meshfold.model.types import (
    Candidates,
    Embeddings,
    EmbedQuery,
    Neighbours,
    Query,
    ScoreQuery,
    Scores,
    SearchQuery,
)
from meshfold.protos.mesh.v1 import orchestrator_pb2, retrieval_pb2, scoring_pb2, types_pb2, user_tower_pb2
from meshfold.protos.meshfold.v1 import retrieval_pb2 as native


def retrieve_response(
    query: Query, candidates: Candidates, versions: types_pb2.Versions | None = None
) -> bytes:
    """As compat.mesh_v1.retrieve.encode."""
    version = candidates.version
    response = orchestrator_pb2.RetrieveResponse(
        request_id=query.request_id,
        tasks=candidates.tasks,
        versions=versions
        or types_pb2.Versions(user_tower=version, index=version, filter=version, scoring=version),
        explain={retrieve.path(query, name): text for name, text in candidates.explain.items()},
    )
    numbers = (candidates.values, candidates.similarities, candidates.task_scores)
    strings = isinstance(candidates.item_ids, tuple)
    add = response.candidates.add
    # Setting fields one by one takes half as long as giving them to a constructor.
    for item_id, value, similarity, scores in zip(
        plain(candidates.item_ids), *(column.tolist() for column in numbers), strict=True
    ):
        candidate = add()
        if strings:
            candidate.item_key = item_id
        else:
            candidate.item_id = item_id
        candidate.value = value
        candidate.similarity = similarity
        candidate.task_scores.extend(scores)
    return _bytes(response)


def embed_response(_: EmbedQuery, answer: Embeddings) -> bytes:
    """As compat.mesh_v1.embed.encode."""
    response = user_tower_pb2.EmbedResponse(tasks=answer.tasks, version=answer.version)
    for vectors in answer.vectors.tolist():
        embeddings = response.users.add().embeddings
        for values in vectors:
            embeddings.add().values.extend(values)
    return _bytes(response)


def search_response(_: SearchQuery, answer: Neighbours) -> bytes:
    """As compat.mesh_v1.search.encode."""
    response = retrieval_pb2.SearchResponse(version=answer.version)
    for item_ids, similarities in zip(answer.item_ids, answer.similarities, strict=True):
        neighbours = response.neighbours.add()
        fill_ids(item_ids, neighbours.item_ids, neighbours.item_keys)
        neighbours.similarities.extend(similarities.tolist())
    return _bytes(response)


def score_response(_: ScoreQuery, answer: Scores) -> bytes:
    """As compat.mesh_v1.score.encode."""
    response = scoring_pb2.ScoreResponse(
        tasks=answer.tasks,
        values=answer.values.tolist(),
        task_scores=answer.task_scores.ravel().tolist(),
        version=answer.version,
    )
    fill_ids(answer.item_ids, response.item_ids, response.item_keys)
    fill_ids(answer.unknown_ids, response.unknown_item_ids, response.unknown_item_keys)
    return _bytes(response)


def native_response(query: Query, candidates: Candidates) -> bytes:
    """As compat.meshfold_v1.encode."""
    response = native.RetrieveResponse(
        request_id=query.request_id,
        tasks=candidates.tasks,
        values=candidates.values.tolist(),
        similarities=candidates.similarities.tolist(),
        task_scores=candidates.task_scores.ravel().tolist(),
        version=candidates.version,
        explain={meshfold_v1.path(query, name): text for name, text in candidates.explain.items()},
    )
    fill_ids(candidates.item_ids, response.item_ids, response.item_keys)
    for name, field in candidates.fields.items():
        column = response.fields.add(field=name, lengths=field.lengths.tolist())
        if isinstance(field.values, tuple):
            column.strings.extend(field.values)
        elif field.values.dtype == np.int64:
            column.ints.extend(field.values.tolist())
        else:
            column.numbers.extend(field.values.tolist())
    return _bytes(response)


def _bytes(response: Any) -> bytes:
    message: bytes = response.SerializeToString()
    return message
