"""What of a call is recorded: fields that are known and allowed, with personal ones replaced or left out."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection
from enum import StrEnum
from typing import Any

from google.protobuf.message import DecodeError, Message

from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb

# Of the user, besides the id. Without them an answer cannot be asked for again.
PERSONAL = ("history", "features")
# The fields that go with the history: the same as strings, and what a caller excludes, which is usually the history.
_OF_HISTORY = frozenset({"history", "history_keys", "excluded_item_ids", "excluded_item_keys"})
# What a redacted request, its user and an answer keep. A field that the protocol gains is not recorded until it stands
# here. Of answers `explain` is left out: a mesh may write anything there.
OF_REQUEST = (
    "request_id",
    "surface",
    "user",
    "filter",
    "max_results",
    "excluded_item_ids",
    "task_weights",
    "value_formula",
    "explain",
    "excluded_item_keys",
)
OF_USER = ("user_id", "history", "features", "user_key", "history_keys")
OF_ANSWER = ("request_id", "tasks", "candidates", "versions")
_REQUEST_ID, _USER_KEY = b"request id ", b"user key "
_ID_CHARACTERS = 32


class UserIds(StrEnum):
    HASH = "hash"
    OMIT = "omit"
    KEEP = "keep"


class Redaction:
    """Of requests and answers. Where nothing is to be redacted, their bytes stay as they came.

    Otherwise unknown fields are left out at every level. A request id, which may hold a user's id or a session's, is
    treated as user ids are. Items that a caller excludes are usually those of the history, and go with it.

    A hashed id is the same for the same id until the server ends: its key is random and written nowhere.
    """

    def __init__(self, user_ids: UserIds, omit: Collection[str]) -> None:
        """omit: those of PERSONAL that are left out."""
        self._user_ids = user_ids
        self._omit = frozenset(omit) | (_OF_HISTORY if "history" in omit else frozenset())
        self._of_request = frozenset(OF_REQUEST) - self._omit
        self._of_user = frozenset(OF_USER) - self._omit
        self._key = secrets.token_bytes(32)

    def request(self, message: bytes) -> bytes:
        """Of a mesh.v1.RetrieveRequest; empty where the bytes are none."""
        if self._keeps_all:
            return message
        request = _known(pb.RetrieveRequest, message)
        if request is None:
            return b""
        _keep(request, self._of_request)
        request.request_id = self._text_id(_REQUEST_ID, request.request_id)
        if request.HasField("user"):
            _keep(request.user, self._of_user)
            request.user.user_id = self._user_id(request.user.user_id)
            request.user.user_key = self._text_id(_USER_KEY, request.user.user_key)
        return _bytes(request)

    def answer(self, message: bytes) -> bytes:
        """Of a mesh.v1.RetrieveResponse; empty where the bytes are none."""
        if self._keeps_all:
            return message
        answer = _known(pb.RetrieveResponse, message)
        if answer is None:
            return b""
        _keep(answer, OF_ANSWER)
        answer.request_id = self._text_id(_REQUEST_ID, answer.request_id)
        return _bytes(answer)

    @property
    def _keeps_all(self) -> bool:
        return self._user_ids is UserIds.KEEP and not self._omit

    def _user_id(self, user_id: int) -> int:
        """Hashed: from 1 to 2^63 - 1. 0, which is no user, stays 0."""
        if self._user_ids is UserIds.KEEP or user_id == 0:
            return user_id
        if self._user_ids is UserIds.OMIT:
            return 0
        return (int.from_bytes(self._digest(user_id.to_bytes(8, "big", signed=True))[:8], "big") >> 1) or 1

    def _text_id(self, kind: bytes, text: str) -> str:
        """Hashed: hexadecimal. An answer's request id is its request's."""
        if self._user_ids is UserIds.KEEP or not text:
            return text
        if self._user_ids is UserIds.OMIT:
            return ""
        return self._digest(kind + text.encode()).hex()[:_ID_CHARACTERS]

    def _digest(self, content: bytes) -> bytes:
        return hmac.digest(self._key, content, hashlib.sha256)


def _known(kind: Any, message: bytes) -> Any | None:
    """The message without unknown fields, at any level; None where the bytes are none."""
    try:
        known = kind.FromString(message)
    except DecodeError:
        return None
    known.DiscardUnknownFields()
    return known


def _keep(message: Message, names: Collection[str]) -> None:
    """Takes every other field away."""
    for field, _ in message.ListFields():
        if field.name not in names:
            message.ClearField(field.name)


def _bytes(message: Message) -> bytes:
    content: bytes = message.SerializeToString()
    return content
