"""The method that apps call: mesh.v1.OrchestratorService/Retrieve."""

from __future__ import annotations

from meshfold.compat import wire_template
from meshfold.compat.filters import decode_filter
from meshfold.compat.ids import columns_of, ids_of, refuse_two_kinds
from meshfold.compat.mesh_v1.messages import FEATURE_NAME, PATHS, decode_user, parse, user_counters
from meshfold.compat.request_size import SizeScanner, filter_counters
from meshfold.compat.wire import Counter
from meshfold.model.limits import Limits
from meshfold.model.types import Candidates, Query, RequestSize
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.protos.mesh.v1 import types_pb2 as types

METHOD = "/mesh.v1.OrchestratorService/Retrieve"

_SIZES = SizeScanner(
    pb.RetrieveRequest.DESCRIPTOR,
    {
        **user_counters(),
        **filter_counters("RetrieveRequest.filter"),
        "excluded": Counter(("RetrieveRequest.excluded_item_ids", "RetrieveRequest.excluded_item_keys")),
        "weights": Counter(("RetrieveRequest.task_weights",)),
    },
    PATHS,
    results="max_results",
    feature_name=FEATURE_NAME,
)

_CANDIDATES = wire_template.compile(
    pb.RetrieveResponse.DESCRIPTOR,
    {
        "candidates.item_id": "item_ids",
        "candidates.value": "values",
        "candidates.similarity": "similarities",
        "candidates.task_scores": "task_scores",
        "candidates.item_key": "item_keys",
    },
)


def measure(message: bytes, limits: Limits) -> RequestSize:
    """The size of a RetrieveRequest. Raises InvalidQuery where it exceeds a limit."""
    return _SIZES.measure(message, limits)


def decode(message: bytes) -> Query:
    """Decodes a RetrieveRequest. Raises InvalidQuery."""
    return query_of(parse(pb.RetrieveRequest, message))


def query_of(request: pb.RetrieveRequest) -> Query:
    """The Query of a parsed RetrieveRequest. Raises InvalidQuery."""
    user = decode_user(request.user)
    excluded = ids_of("excluded_ids", request.excluded_item_ids, request.excluded_item_keys)
    refuse_two_kinds({"history": user.history, "excluded_ids": excluded}, PATHS.named)
    return Query(
        surface=request.surface,
        max_results=request.max_results,
        request_id=request.request_id,
        user_id=user.user_id,
        history=user.history,
        features=user.features,
        filter=decode_filter(request.filter) if request.HasField("filter") else None,
        excluded_ids=excluded,
        task_weights=dict(request.task_weights),
        value_formula=request.value_formula,
        explain=request.explain,
    )


def path(query: Query, path: str) -> str:
    """Translates the path of a part of the query into a path of the RetrieveRequest."""
    return PATHS.of(query, path)


def encode(query: Query, candidates: Candidates, versions: types.Versions | None = None) -> bytes:
    """The bytes of the RetrieveResponse to a query, without fields, which this protocol lacks.

    versions: of the parts of a mesh; None where all four parts are one snapshot.
    """
    version = candidates.version
    before = pb.RetrieveResponse(request_id=query.request_id, tasks=candidates.tasks)
    after = pb.RetrieveResponse(
        versions=versions
        or types.Versions(user_tower=version, index=version, filter=version, scoring=version),
        explain={path(query, name): text for name, text in candidates.explain.items()},
    )
    item_ids, item_keys = columns_of(candidates.item_ids)
    columns = {
        "item_ids": item_ids,
        "values": candidates.values,
        "similarities": candidates.similarities,
        "task_scores": candidates.task_scores,
        "item_keys": item_keys,
    }
    # Parts of a message in the order of field numbers, concatenated, are the message. The class encodes the short
    # fields.
    return b"".join((before.SerializeToString(), _CANDIDATES.encode(columns), after.SerializeToString()))
