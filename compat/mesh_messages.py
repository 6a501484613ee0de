"""The caller's side of mesh.v1's Retrieve: encodes a Query, decodes Candidates."""

from __future__ import annotations

import numpy as np
from google.protobuf.message import DecodeError

from meshfold.compat.client import CallFailed, feature_values, fill, serialized
from meshfold.compat.request_paths import of_query
from meshfold.model.errors import InvalidQuery
from meshfold.model.types import Candidates, Query
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.protos.mesh.v1 import types_pb2 as types


def encode_request(query: Query) -> bytes:
    """The bytes of the mesh.v1.RetrieveRequest of a query. Raises InvalidQuery, also for max_per_value and fields,
    which mesh.v1 lacks."""
    if query.max_per_value is not None:
        raise InvalidQuery("max_per_value", "is no part of mesh.v1; ask the model alone, by meshfold.v1")
    if query.fields:
        raise InvalidQuery("fields", "are no part of mesh.v1; ask the model alone, by meshfold.v1")
    return serialized(_request, query)


def _request(query: Query) -> pb.RetrieveRequest:
    request = pb.RetrieveRequest(task_weights=dict(query.task_weights))
    fill(request, request.user, query)
    for name, values in query.features.items():
        kind, plain = feature_values(values)
        getattr(request.user.features[name], kind).values.extend(plain)
    return request


def decode_response(message: bytes) -> tuple[Candidates, dict[str, str]]:
    """Decodes a mesh.v1.RetrieveResponse: (Candidates without fields, versions of the mesh's parts by name). Raises
    CallFailed."""
    try:
        response = pb.RetrieveResponse.FromString(message)
    except DecodeError:
        raise CallFailed("the answer is not a mesh.v1.RetrieveResponse") from None
    found = response.candidates
    k, t = len(found), len(response.tasks)
    scores = np.array([score for c in found for score in c.task_scores], np.float32)
    if len(scores) != k * t:
        raise CallFailed(f"the answer has {len(scores)} task scores for {k} candidates and {t} tasks")
    keys = tuple(c.item_key for c in found)
    versions = {f.name: getattr(response.versions, f.name) for f in types.Versions.DESCRIPTOR.fields}
    candidates = Candidates(
        tasks=tuple(response.tasks),
        version=versions["index"],
        item_ids=keys if any(keys) else np.array([c.item_id for c in found], np.int64),
        values=np.array([c.value for c in found], np.float32),
        similarities=np.array([c.similarity for c in found], np.float32),
        task_scores=scores.reshape(k, t),
        explain={of_query(path): text for path, text in response.explain.items()},
    )
    return candidates, versions
