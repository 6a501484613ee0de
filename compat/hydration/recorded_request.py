"""The request that is recorded with an answer; it includes the user that the server filled in for the model."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from meshfold.compat.client import feature_values
from meshfold.compat.ids import fill_ids
from meshfold.model.errors import InvalidData
from meshfold.model.types import User
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.protos.mesh.v1 import types_pb2 as types
from meshfold.service.front import Answered, Outcome

_FILLED = ("history", "history_keys", "features")


def recorded_request(answered: Answered, shadow: Outcome | None = None) -> bytes:
    """The bytes recorded as the request of an answer, or of its shadow.

    For a shadow b"", which stands for the request of its answer, unless a user was filled in for the shadow. Requests
    of mapped methods are recorded unchanged; recorded_user has the filled-in user.
    """
    hydrated = _hydrated(answered, shadow)
    if hydrated is None or answered.method:
        return answered.message if shadow is None else b""
    return hydrated_request(answered.message, hydrated)


def recorded_user(answered: Answered, shadow: Outcome | None = None) -> types.UserContext | None:
    """History and features filled in for a mapped method; None where nothing was filled in."""
    hydrated = _hydrated(answered, shadow)
    if hydrated is None or not answered.method:
        return None
    user = types.UserContext()
    _fill(user, hydrated)
    return user


def hydrated_request(message: bytes, user: User) -> bytes:
    """A mesh.v1.RetrieveRequest with the history and features of `user`; unparsable bytes stay unchanged."""
    try:
        request = pb.RetrieveRequest.FromString(message)
    except DecodeError:
        return message
    _fill(request.user, user)
    filled: bytes = request.SerializeToString()
    return filled


def with_user(message: bytes, hydrated: bytes) -> bytes:
    """A mesh.v1.RetrieveRequest with history and features of a recorded mesh.v1.UserContext. Raises InvalidData where
    that cannot be parsed."""
    request = pb.RetrieveRequest.FromString(message)
    try:
        user = types.UserContext.FromString(hydrated)
    except DecodeError:
        raise InvalidData("a recorded user's bytes are not a mesh.v1.UserContext") from None
    for name in _FILLED:
        request.user.ClearField(name)
    user.ClearField("user_id")
    user.ClearField("user_key")
    request.user.MergeFrom(user)
    filled: bytes = request.SerializeToString()
    return filled


def _hydrated(answered: Answered, shadow: Outcome | None) -> User | None:
    outcome = shadow or answered.outcome
    return outcome.reply.hydrated if outcome.reply is not None else None


def _fill(message: types.UserContext, user: User) -> None:
    for name in _FILLED:
        message.ClearField(name)
    fill_ids(user.history, message.history, message.history_keys)
    for name, values in user.features.items():
        kind, plain = feature_values(values)
        getattr(message.features[name], kind).values.extend(plain)
