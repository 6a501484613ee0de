"""The mesh's own call: mesh.v1.OrchestratorService/Retrieve."""

from __future__ import annotations

import numpy as np
from google.protobuf.message import DecodeError

from meshfold.compat.filters import decode_filter
from meshfold.model.errors import InvalidQuery
from meshfold.model.types import Candidates, FeatureList, Query
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.protos.mesh.v1 import types_pb2 as types

METHOD = "/mesh.v1.OrchestratorService/Retrieve"


def decode(message: bytes) -> Query:
    """The Query of a RetrieveRequest's bytes. Raises InvalidQuery."""
    try:
        request = pb.RetrieveRequest.FromString(message)
    except DecodeError:
        raise InvalidQuery("request", "the bytes are not a mesh.v1.RetrieveRequest") from None
    return Query(
        surface=request.surface,
        max_results=request.max_results,
        request_id=request.request_id,
        user_id=request.user.user_id,
        history=np.array(request.user.history, np.int64),
        features={name: _feature(name, value) for name, value in request.user.features.items()},
        filter=decode_filter(request.filter) if request.HasField("filter") else None,
        excluded_ids=np.array(request.excluded_item_ids, np.int64),
        task_weights=dict(request.task_weights),
        value_formula=request.value_formula,
        explain=request.explain,
    )


def encode(query: Query, candidates: Candidates) -> bytes:
    """The bytes of the RetrieveResponse to `query`. Fields are not part of this protocol."""
    response = pb.RetrieveResponse(
        request_id=query.request_id,
        tasks=candidates.tasks,
        # A mesh deploys its parts one by one; here all four come from one snapshot.
        versions=types.Versions(
            user_tower=candidates.version,
            index=candidates.version,
            filter=candidates.version,
            scoring=candidates.version,
        ),
        explain=candidates.explain,
    )
    columns = (candidates.item_ids, candidates.values, candidates.similarities, candidates.task_scores)
    add = response.candidates.add
    # Setting fields one by one takes half as long as giving them to a constructor.
    for item_id, value, similarity, scores in zip(*(c.tolist() for c in columns), strict=True):
        candidate = add()
        candidate.item_id = item_id
        candidate.value = value
        candidate.similarity = similarity
        candidate.task_scores.extend(scores)
    message: bytes = response.SerializeToString()
    return message


def _feature(name: str, value: types.FeatureValue) -> FeatureList:
    match value.WhichOneof("kind"):
        case "ints":
            return np.array(value.ints.values, np.int64)
        case "floats":
            return np.array(value.floats.values, np.float32)
        case "strings":
            return tuple(value.strings.values)
    raise InvalidQuery(f'features["{name}"]', "none of ints, floats and strings is set; set one")
