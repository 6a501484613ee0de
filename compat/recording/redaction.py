"""Redaction of mesh.v1 messages for recordings: keeps listed fields, with personal ones replaced or removed."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError, Message

from meshfold.compat.key import KeyedHash
from meshfold.compat.recording.rules import Rules, UserIds
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb

__all__ = ["PERSONAL", "RedactedRequest", "Redaction", "UserIds"]

# Personal fields of the user besides the id. A request without them cannot be replayed.
PERSONAL = ("history", "features")
# Fields removed with the history: string ids, and excluded items, which are usually the history.
_OF_HISTORY = frozenset({"history", "history_keys", "excluded_item_ids", "excluded_item_keys"})
# Fields kept of a redacted request, its user and an answer. A new field of the protocol is not recorded until it is
# listed here. `explain` is not kept, since a mesh may put anything there.
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


@dataclass(frozen=True)
class RedactedRequest:
    """A redacted request. content: b"" where the bytes could not be parsed. is_redacted: whether it lacks fields on
    which an answer may depend, so that it cannot be replayed.

    These are: removed history, features or exclusions; fields unknown to this version; a replaced or removed user id in
    a request without a history. A replaced user id beside a history, and a replaced request id, do not count.

    For a mapped method, metadata: the caller's metadata that the mapping reads. left_out: paths of set fields that the
    mapping does not read. lacks_user: whether it lacks only the id of a user without a history.
    """

    content: bytes
    is_redacted: bool
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    lacks_user: bool = False


class Redaction:
    """Redacts requests and answers. Where the settings redact nothing, bytes stay unchanged.

    Otherwise unknown fields are removed at every level. A request id, which may contain an id of a user or a session,
    is treated like a user id. Excluded items, which are usually those of the history, are removed with it.
    """

    def __init__(self, user_ids: UserIds, omit: Collection[str], keyed: KeyedHash | None = None) -> None:
        """omit: the fields of PERSONAL to remove. keyed: None for hashes with a random key of this object."""
        self.rules = Rules(user_ids, omit, keyed)
        left_out = frozenset(omit) | (_OF_HISTORY if "history" in omit else frozenset())
        self._of_request = frozenset(OF_REQUEST) - left_out
        self._of_user = frozenset(OF_USER) - left_out

    def request(self, message: bytes) -> bytes:
        """The redacted mesh.v1.RetrieveRequest; empty where the bytes cannot be parsed."""
        return self.redacted(message).content

    def redacted(self, message: bytes) -> RedactedRequest:
        """The redacted mesh.v1.RetrieveRequest, with whether it can be replayed."""
        if self.rules.keeps_all:
            return RedactedRequest(message, False)
        request = _parsed(pb.RetrieveRequest, message)
        if request is None:
            return RedactedRequest(b"", True)
        came_bytes = request.ByteSize()
        request.DiscardUnknownFields()
        _keep(request, self._of_request)
        user = request.user if request.HasField("user") else None
        if user is not None:
            _keep(user, self._of_user)
        is_redacted = request.ByteSize() < came_bytes
        request.request_id = self.rules.request_id(request.request_id)
        if user is not None:
            had = (user.user_id, user.user_key)
            user.user_id, user.user_key = self.rules.user_id(user.user_id), self.rules.user_key(user.user_key)
            has_history = bool(user.history or user.history_keys)
            is_redacted |= not has_history and (user.user_id, user.user_key) != had
        return RedactedRequest(_bytes(request), is_redacted)

    def answer(self, message: bytes) -> bytes:
        """The redacted mesh.v1.RetrieveResponse; empty where the bytes cannot be parsed."""
        if self.rules.keeps_all:
            return message
        answer = _parsed(pb.RetrieveResponse, message)
        if answer is None:
            return b""
        answer.DiscardUnknownFields()
        _keep(answer, OF_ANSWER)
        answer.request_id = self.rules.request_id(answer.request_id)
        return _bytes(answer)


def _parsed(kind: Any, message: bytes) -> Any | None:
    """The parsed message; None where the bytes cannot be parsed."""
    try:
        return kind.FromString(message)
    except DecodeError:
        return None


def _keep(message: Message, names: Collection[str]) -> None:
    """Clears all fields but the named ones."""
    for field, _ in message.ListFields():
        if field.name not in names:
            message.ClearField(field.name)


def _bytes(message: Message) -> bytes:
    content: bytes = message.SerializeToString()
    return content
