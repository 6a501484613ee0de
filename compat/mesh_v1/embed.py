"""The orchestrator's first call: mesh.v1.UserTowerService/Embed."""

from __future__ import annotations

from meshfold.compat import wire_template
from meshfold.compat.ids import refuse_two_kinds
from meshfold.compat.mesh_v1.messages import FEATURE_NAME, PATHS, decode_user, parse, user_counters
from meshfold.compat.request_size import SizeScanner
from meshfold.compat.wire import Counter
from meshfold.model.limits import Limits
from meshfold.model.types import Embeddings, EmbedQuery, RequestSize
from meshfold.protos.mesh.v1 import user_tower_pb2 as pb

METHOD = "/mesh.v1.UserTowerService/Embed"

_SIZES = SizeScanner(
    pb.EmbedRequest.DESCRIPTOR,
    {**user_counters(users=True), "users": Counter(("EmbedRequest.users",))},
    PATHS,
    feature_name=FEATURE_NAME,
)

_RESPONSE = wire_template.compile(
    pb.EmbedResponse.DESCRIPTOR,
    {"tasks": "tasks", "users.embeddings.values": "vectors", "version": "version"},
)


def measure(message: bytes, limits: Limits) -> RequestSize:
    """The size of an EmbedRequest. Raises InvalidQuery where it exceeds a limit."""
    return _SIZES.measure(message, limits)


def decode(message: bytes) -> EmbedQuery:
    """Decodes an EmbedRequest. Raises InvalidQuery."""
    request = parse(pb.EmbedRequest, message)
    users = tuple(decode_user(user, f"users[{place}]") for place, user in enumerate(request.users))
    refuse_two_kinds(
        {f"users[{place}].history": user.history for place, user in enumerate(users)}, PATHS.named
    )
    return EmbedQuery(request.surface, users)


def path(query: EmbedQuery, path: str) -> str:
    """Translates the path of a part of the query into a path of the EmbedRequest."""
    return PATHS.of(query, path)


def encode(query: EmbedQuery, answer: Embeddings) -> bytes:
    """The bytes of the EmbedResponse to a query."""
    return _RESPONSE.encode({"tasks": answer.tasks, "vectors": answer.vectors, "version": answer.version})
