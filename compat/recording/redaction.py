"""What of a call is recorded: fields that are known and allowed, with personal ones replaced or left out."""

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


@dataclass(frozen=True)
class RedactedRequest:
    """content: b"" where the bytes were no request. is_redacted: whether the request lacks what an answer may depend
    on, so that it cannot be asked again.

    That is: history, features or exclusions that were left out; a field that this version does not know; a user id that
    was replaced or left out where no history is left, since only the id can have told who asked. A replaced user id
    beside a history, and a replaced request id, do not count.

    Of a mapped method, metadata: of the caller's, what the mapping reads. left_out: paths of fields that the caller set
    and the mapping does not read. lacks_user: whether it lacks nothing but the id of a user without a history.
    """

    content: bytes
    is_redacted: bool
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    lacks_user: bool = False


class Redaction:
    """Of requests and answers. Where nothing is to be redacted, their bytes stay as they came.

    Otherwise unknown fields are left out at every level. A request id, which may hold a user's id or a session's, is
    treated as user ids are. Items that a caller excludes are usually those of the history, and go with it.
    """

    def __init__(self, user_ids: UserIds, omit: Collection[str], keyed: KeyedHash | None = None) -> None:
        """omit: those of PERSONAL that are left out. keyed: None for hashes under a random key, the same for the same
        id until this object goes."""
        self.rules = Rules(user_ids, omit, keyed)
        left_out = frozenset(omit) | (_OF_HISTORY if "history" in omit else frozenset())
        self._of_request = frozenset(OF_REQUEST) - left_out
        self._of_user = frozenset(OF_USER) - left_out

    def request(self, message: bytes) -> bytes:
        """Of a mesh.v1.RetrieveRequest; empty where the bytes are none."""
        return self.redacted(message).content

    def redacted(self, message: bytes) -> RedactedRequest:
        """Of a mesh.v1.RetrieveRequest, and whether it can still be asked."""
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
        """Of a mesh.v1.RetrieveResponse; empty where the bytes are none."""
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
    """The message; None where the bytes are none."""
    try:
        return kind.FromString(message)
    except DecodeError:
        return None


def _keep(message: Message, names: Collection[str]) -> None:
    """Takes every other field away."""
    for field, _ in message.ListFields():
        if field.name not in names:
            message.ClearField(field.name)


def _bytes(message: Message) -> bytes:
    content: bytes = message.SerializeToString()
    return content
