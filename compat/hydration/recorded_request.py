"""The request that is recorded with an answer: with the user that the model got, where the server filled it in."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from meshfold.compat.client import feature_values
from meshfold.compat.ids import fill_ids
from meshfold.model.types import User
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.service.front import Answered, Outcome


def recorded_request(answered: Answered, shadow: Outcome | None = None) -> bytes:
    """The bytes that a recording keeps as the request of an answer, or of its shadow.

    A shadow's is that of its call's answer, which is b"" here, unless a user was filled in for the shadow.
    """
    outcome = shadow or answered.outcome
    hydrated = outcome.reply.hydrated if outcome.reply is not None else None
    if hydrated is None:
        return answered.message if shadow is None else b""
    return hydrated_request(answered.message, hydrated)


def hydrated_request(message: bytes, user: User) -> bytes:
    """A mesh.v1.RetrieveRequest with the history and features of `user`; bytes that are none stay as they are."""
    try:
        request = pb.RetrieveRequest.FromString(message)
    except DecodeError:
        return message
    for name in ("history", "history_keys", "features"):
        request.user.ClearField(name)
    fill_ids(user.history, request.user.history, request.user.history_keys)
    for name, values in user.features.items():
        kind, plain = feature_values(values)
        getattr(request.user.features[name], kind).values.extend(plain)
    filled: bytes = request.SerializeToString()
    return filled
