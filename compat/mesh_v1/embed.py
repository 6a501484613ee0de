"""The orchestrator's first call: mesh.v1.UserTowerService/Embed."""

from __future__ import annotations

from meshfold.compat.mesh_v1.messages import decode_user, parse
from meshfold.model.errors import InvalidQuery
from meshfold.model.types import Embeddings, EmbedQuery, User
from meshfold.protos.mesh.v1 import types_pb2 as types
from meshfold.protos.mesh.v1 import user_tower_pb2 as pb

METHOD = "/mesh.v1.UserTowerService/Embed"


def decode(message: bytes) -> EmbedQuery:
    """The EmbedQuery of an EmbedRequest's bytes. Raises InvalidQuery."""
    request = parse(pb.EmbedRequest, message)
    return EmbedQuery(request.surface, tuple(_user(place, user) for place, user in enumerate(request.users)))


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
