"""The facts of a request that a pair keeps: hashed ids, the filter in CEL, and its slices."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from meshfold.compat.filters import decode_filter
from meshfold.compat.key import KeyedHash
from meshfold.model.errors import InvalidData, InvalidQuery
from meshfold.model.filter.text import format_filter
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.protos.mesh.v1 import types_pb2 as types

# Names of slices, and the prefix of slices of features.
HISTORY, USER, HAS_FILTER, FEATURE = "history", "user", "filtered", "feature."
_HISTORY_FROM = (0, 1, 5, 20, 100)
_HISTORY_NAMES = ("0", "1-4", "5-19", "20-99", "100+")
_MOST_CHARACTERS = 100


@dataclass(frozen=True)
class RequestFacts:
    """Arguments of Pair that come from its request. filter: None where it cannot be written in CEL."""

    request_id: str
    surface: str
    user_key: str
    max_results: int
    filter: str | None
    slices: dict[str, str]


def facts_of(message: bytes, keyed: KeyedHash | None, features: Collection[str] = ()) -> RequestFacts:
    """The facts of a mesh.v1.RetrieveRequest, given as bytes.

    keyed: hashes the ids of user and request; None where they are hashes already. features: features that become
    slices; the operator must choose none that are personal. Raises InvalidData where the bytes cannot be parsed.
    """
    try:
        request = pb.RetrieveRequest.FromString(message)
    except DecodeError:
        raise InvalidData("a request's bytes are not a mesh.v1.RetrieveRequest") from None
    user = request.user
    met = len(user.history) + len(user.history_keys)
    is_known = bool(met or user.user_id or user.user_key or user.features)
    slices = {
        HISTORY: _HISTORY_NAMES[bisect_right(_HISTORY_FROM, met) - 1],
        USER: "known" if is_known else "unknown",
        HAS_FILTER: "yes" if request.HasField("filter") else "no",
    }
    slices |= {f"{FEATURE}{name}": _value(user, name) for name in features}
    return RequestFacts(
        request_id=keyed.request_id(request.request_id) if keyed else request.request_id,
        surface=request.surface,
        user_key=_user_key(user, keyed),
        max_results=max(request.max_results, 0),
        filter=_filter(request),
        slices=slices,
    )


def _user_key(user: types.UserContext, keyed: KeyedHash | None) -> str:
    """The hash of a user in hexadecimal digits; "" without a user. The integer 7 and the string "7" are two users."""
    if user.user_key:
        return keyed.user_key(user.user_key) if keyed else user.user_key
    user_id = keyed.user_id(user.user_id) if keyed else user.user_id
    return f"{user_id:016x}" if user_id else ""


def _filter(request: pb.RetrieveRequest) -> str | None:
    if not request.HasField("filter"):
        return ""
    try:
        return format_filter(decode_filter(request.filter))
    except InvalidQuery:
        return None


def _value(user: types.UserContext, name: str) -> str:
    if name not in user.features:
        return "none"
    feature = user.features[name]
    kind = feature.WhichOneof("kind")
    values = getattr(feature, kind).values if kind else ()
    return ", ".join(map(str, values))[:_MOST_CHARACTERS] or "none"
