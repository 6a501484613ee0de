"""The call that apps make: mesh.v1.OrchestratorService/Retrieve."""

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

_PARTS = ("user_tower", "index", "filter", "scoring")
_RESPONSE = wire_template.compile(
    pb.RetrieveResponse.DESCRIPTOR,
    {
        "request_id": "request_id",
        "tasks": "tasks",
        "candidates.item_id": "item_ids",
        "candidates.item_key": "item_keys",
        "candidates.value": "values",
        "candidates.similarity": "similarities",
        "candidates.task_scores": "task_scores",
        "explain": "explain",
        **{f"versions.{part}": part for part in _PARTS},
    },
)


def measure(message: bytes, limits: Limits) -> RequestSize:
    """What a RetrieveRequest's bytes ask for. Raises InvalidQuery where that is beyond the limits."""
    return _SIZES.measure(message, limits)


def decode(message: bytes) -> Query:
    """The Query of a RetrieveRequest's bytes. Raises InvalidQuery."""
    return query_of(parse(pb.RetrieveRequest, message))


def query_of(request: pb.RetrieveRequest) -> Query:
    """The Query of a RetrieveRequest. Raises InvalidQuery."""
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
    """The path of a part of `query` in the RetrieveRequest that it was decoded from."""
    return PATHS.of(query, path)


def encode(query: Query, candidates: Candidates, versions: types.Versions | None = None) -> bytes:
    """The bytes of the RetrieveResponse to `query`. Fields are not part of this protocol.

    versions: of the parts of a mesh, which deploys them one by one; else all four come from one snapshot.
    """
    one = candidates.version
    parts = {part: getattr(versions, part) if versions else one for part in _PARTS}
    item_ids, item_keys = columns_of(candidates.item_ids)
    return _RESPONSE.encode(
        {
            "request_id": query.request_id,
            "tasks": candidates.tasks,
            "item_ids": item_ids,
            "item_keys": item_keys,
            "values": candidates.values,
            "similarities": candidates.similarities,
            "task_scores": candidates.task_scores,
            "explain": {path(query, name): text for name, text in candidates.explain.items()} or None,
            **parts,
        }
    )
