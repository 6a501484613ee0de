"""Decodes users from a source's values: a mapping (JSON, a function's result) or a mesh.v1.UserContext."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from meshfold.compat.hydration.source import Failed, Reason
from meshfold.compat.mesh_v1.messages import decode_user
from meshfold.model.errors import InvalidQuery
from meshfold.model.types import FeatureList, Ids, Int64s, User, no_ids
from meshfold.protos.mesh.v1 import types_pb2 as pb

_JSON = b"{"
_MOST_FLOAT = float(np.finfo(np.float32).max)


def user_of_bytes(content: bytes, user_id: int | str) -> User:
    """The user in a value of a key-value store: JSON where it begins with `{`, else a mesh.v1.UserContext.

    user_id: the user of the lookup; a UserContext of another user is refused. Raises Failed.
    """
    if content.startswith(_JSON):
        try:
            return user_of(json.loads(content))
        # RecursionError: lists nested too deeply.
        except (ValueError, RecursionError):
            raise _garbage("the value begins with { and is not JSON") from None
    try:
        message = pb.UserContext.FromString(content)
        user = decode_user(message)
    except DecodeError:
        raise _garbage("the value is neither JSON nor a mesh.v1.UserContext") from None
    except InvalidQuery as error:
        raise _garbage(f"the value's UserContext: {error.message}") from None
    message.DiscardUnknownFields()
    if content and not message.ByteSize():
        raise _garbage("the value is neither JSON nor a mesh.v1.UserContext")
    if user.user_id not in (0, user_id):
        raise _garbage("the value's UserContext is of another user than its key says")
    return user


def user_of(content: Any) -> User:
    """The user in {"history": [ids, oldest first], "features": {name: value or list}}; other names are ignored.

    A feature's values are all strings, all whole numbers or all numbers. Raises Failed.
    """
    if isinstance(content, User):
        return content
    if not isinstance(content, Mapping):
        raise _garbage(f'expected {{"history": [...], "features": {{...}}}}, got {_kind(content)}')
    features = content.get("features")
    if features is not None and not isinstance(features, Mapping):
        raise _garbage(f"features must be a mapping of names to values, got {_kind(features)}")
    return User(
        history=_history(content.get("history")),
        features={_name(name): _feature(values) for name, values in (features or {}).items()},
    )


def _history(values: Any) -> Ids:
    values = _listed(values)
    if not values:
        return no_ids()
    if all(isinstance(value, str) for value in values):
        return _strings(values, "history")
    if all(type(value) is int for value in values):
        return _int64s(values, "history")
    raise _garbage("history must be a list of whole numbers or of strings")


def _feature(values: Any) -> FeatureList:
    values = _listed(values if _is_list(values) else [values])
    if all(isinstance(value, str) for value in values):
        return _strings(values, "a feature")
    if all(type(value) is int for value in values):
        return _int64s(values, "a feature")
    if all(type(value) in (int, float) for value in values):
        # Values beyond float32 become infinite, which the model's limits refuse with the value's path.
        if any(abs(value) > _MOST_FLOAT for value in values):
            raise _garbage("a feature holds a number beyond float32")
        return np.array(values, np.float32)
    raise _garbage("a feature must hold strings, whole numbers or numbers, of one kind")


def _listed(values: Any) -> Sequence[Any]:
    if values is None:
        return ()
    if not _is_list(values):
        raise _garbage(f"expected a list, got {_kind(values)}")
    if isinstance(values, np.ndarray):
        listed: list[Any] = values.tolist() if values.ndim == 1 else [None]
        return listed
    return values  # type: ignore[no-any-return]


def _is_list(values: Any) -> bool:
    return isinstance(values, list | tuple | np.ndarray)


def _int64s(values: Sequence[int], name: str) -> Int64s:
    try:
        return np.array(values, np.int64)
    except OverflowError:
        raise _garbage(f"{name} holds a whole number beyond 64 bits") from None


def _strings(values: Sequence[str], name: str) -> tuple[str, ...]:
    try:
        for value in values:
            value.encode()
    except UnicodeEncodeError:
        raise _garbage(f"{name} holds a string that is not Unicode text") from None
    return tuple(values)


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise _garbage(f"names of features must be strings, got {_kind(name)}")
    return _strings([name], "a feature's name")[0]


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def _garbage(text: str) -> Failed:
    return Failed(Reason.GARBAGE, text)
