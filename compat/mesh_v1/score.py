"""The orchestrator's third method to call: mesh.v1.ScoringService/Score."""

from __future__ import annotations

from meshfold.compat import wire_template
from meshfold.compat.ids import columns_of, ids_of, refuse_two_kinds
from meshfold.compat.mesh_v1.messages import FEATURE_NAME, PATHS, decode_user, parse, user_counters
from meshfold.compat.request_size import SizeScanner
from meshfold.compat.wire import Counter
from meshfold.model.limits import Limits
from meshfold.model.types import RequestSize, ScoreQuery, Scores
from meshfold.protos.mesh.v1 import scoring_pb2 as pb

METHOD = "/mesh.v1.ScoringService/Score"

_SIZES = SizeScanner(
    pb.ScoreRequest.DESCRIPTOR,
    {
        **user_counters(),
        "item_ids": Counter(("ScoreRequest.item_ids", "ScoreRequest.item_keys")),
        "weights": Counter(("ScoreRequest.task_weights",)),
    },
    PATHS,
    feature_name=FEATURE_NAME,
)

_RESPONSE = wire_template.compile(
    pb.ScoreResponse.DESCRIPTOR, {field.name: field.name for field in pb.ScoreResponse.DESCRIPTOR.fields}
)


def measure(message: bytes, limits: Limits) -> RequestSize:
    """The size of a ScoreRequest. Raises InvalidQuery where it exceeds a limit."""
    return _SIZES.measure(message, limits)


def decode(message: bytes) -> ScoreQuery:
    """Decodes a ScoreRequest. Raises InvalidQuery."""
    request = parse(pb.ScoreRequest, message)
    user = decode_user(request.user)
    item_ids = ids_of("item_ids", request.item_ids, request.item_keys)
    refuse_two_kinds({"history": user.history, "item_ids": item_ids}, PATHS.named)
    return ScoreQuery(
        surface=request.surface,
        user=user,
        item_ids=item_ids,
        task_weights=dict(request.task_weights),
        value_formula=request.value_formula,
    )


def path(query: ScoreQuery, path: str) -> str:
    """Translates the path of a part of the query into a path of the ScoreRequest."""
    return PATHS.of(query, path)


def encode(query: ScoreQuery, answer: Scores) -> bytes:
    """The bytes of the ScoreResponse to a query."""
    item_ids, item_keys = columns_of(answer.item_ids)
    unknown_item_ids, unknown_item_keys = columns_of(answer.unknown_ids)
    return _RESPONSE.encode(
        {
            "tasks": answer.tasks,
            "item_ids": item_ids,
            "item_keys": item_keys,
            "values": answer.values,
            "task_scores": answer.task_scores.ravel(),
            "unknown_item_ids": unknown_item_ids,
            "unknown_item_keys": unknown_item_keys,
            "version": answer.version,
        }
    )
