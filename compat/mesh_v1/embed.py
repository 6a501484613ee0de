"""The orchestrator's first call: mesh.v1.UserTowerService/Embed."""

from __future__ import annotations

from meshfold.compat.ids import refuse_two_kinds
from meshfold.compat.mesh_v1.messages import FEATURE_NAME, decode_user, parse, user_counters
from meshfold.compat.request_size import SizeScanner
from meshfold.compat.wire import Counter
from meshfold.model.errors import InvalidQuery
from meshfold.model.limits import Limits
from meshfold.model.types import Embeddings, EmbedQuery, RequestSize, User
from meshfold.protos.mesh.v1 import types_pb2 as types
from meshfold.protos.mesh.v1 import user_tower_pb2 as pb

METHOD = "/mesh.v1.UserTowerService/Embed"

_SIZES = SizeScanner(
    pb.EmbedRequest.DESCRIPTOR,
    {**user_counters(users=True), "users": Counter(("EmbedRequest.users",))},
    feature_name=FEATURE_NAME,
)


def measure(message: bytes, limits: Limits) -> RequestSize:
    """What a EmbedRequest's bytes ask for. Raises InvalidQuery where that is beyond the limits."""
    return _SIZES.measure(message, limits)


def decode(message: bytes) -> EmbedQuery:
    """The EmbedQuery of an EmbedRequest's bytes. Raises InvalidQuery."""
    request = parse(pb.EmbedRequest, message)
    users = tuple(_user(place, user) for place, user in enumerate(request.users))
    refuse_two_kinds({f"users[{place}].history": user.history for place, user in enumerate(users)})
    return EmbedQuery(request.surface, users)


def encode(query: EmbedQuery, answer: Embeddings) -> bytes:
    """The bytes of the EmbedResponse to `query`."""
    response = pb.EmbedResponse(tasks=answer.tasks, version=answer.version)
    for vectors in answer.vectors.tolist():
        embeddings = response.users.add().embeddings
        for values in vectors:
            embeddings.add().values.extend(values)
    message: bytes = response.SerializeToString()
    return message


def _user(place: int, user: types.UserContext) -> User:
    try:
        return decode_user(user)
    except InvalidQuery as error:
        raise error.within(f"users[{place}]") from None
