"""Parsing of messages and users, shared by the methods of mesh.v1."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from meshfold.compat.ids import ids_of, user_id_of
from meshfold.compat.request_paths import RequestPaths
from meshfold.compat.wire import Counter
from meshfold.model.errors import InvalidQuery
from meshfold.model.types import FeatureList, User
from meshfold.protos.mesh.v1 import types_pb2 as types

M = TypeVar("M", bound=Message)

FEATURE_NAME = "FeaturesEntry.key"
PATHS = RequestPaths(user="user.", values=".values")
_VALUES = ("IntList.values", "FloatList.values", "StringList.values")


def user_counters(users: bool = False) -> dict[str, Counter]:
    """The counters of a request's user, or of each of its users."""
    scope = "UserContext" if users else ""
    return {
        "history": Counter(("UserContext.history", "UserContext.history_keys"), scope),
        "features": Counter(("UserContext.features",), scope),
        "feature_values": Counter(_VALUES, "FeaturesEntry", scope),
    }


def parse(kind: type[M], message: bytes) -> M:
    """Parses a message of a kind. Raises InvalidQuery."""
    try:
        parsed: M = kind.FromString(message)
    except DecodeError:
        raise InvalidQuery("request", f"the bytes are not a {kind.DESCRIPTOR.full_name}") from None
    return parsed


def decode_user(message: types.UserContext, path: str = "user") -> User:
    """Decodes the user at a path of the request. Raises InvalidQuery for a feature without values, and for two kinds of
    ids."""
    try:
        return User(
            user_id=user_id_of(message.user_id, message.user_key),
            history=ids_of("history", message.history, message.history_keys),
            features={name: _feature(name, value) for name, value in message.features.items()},
        )
    except InvalidQuery as error:
        raise error.within(path) from None


def _feature(name: str, value: types.FeatureValue) -> FeatureList:
    match value.WhichOneof("kind"):
        case "ints":
            return np.array(value.ints.values, np.int64)
        case "floats":
            return np.array(value.floats.values, np.float32)
        case "strings":
            return tuple(value.strings.values)
    raise InvalidQuery(f'features["{name}"]', "none of ints, floats and strings is set; set one")
