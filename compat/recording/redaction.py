"""What of a call is recorded: fields that are known and allowed, with personal ones replaced or left out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from google.protobuf.message import DecodeError, Message

from meshfold.compat.key import KeyedHash
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


class UserIds(StrEnum):
    HASH = "hash"
    OMIT = "omit"
    KEEP = "keep"


@dataclass(frozen=True)
class RedactedRequest:
    """content: b"" where the bytes were no request. is_redacted: whether the request lacks what an answer may depend
    on, so that it cannot be asked again.

    That is: history, features or exclusions that were left out; a field that this version does not know; a user id that
    was replaced or left out where no history is left, since only the id can have told who asked. A replaced user id
    beside a history, and a replaced request id, do not count.
    """

    content: bytes
    is_redacted: bool


class Redaction:
    """Of requests and answers. Where nothing is to be redacted, their bytes stay as they came.

    Otherwise unknown fields are left out at every level. A request id, which may hold a user's id or a session's, is
    treated as user ids are. Items that a caller excludes are usually those of the history, and go with it.
    """

    def __init__(self, user_ids: UserIds, omit: Collection[str], keyed: KeyedHash | None = None) -> None:
        """omit: those of PERSONAL that are left out. keyed: None for hashes under a random key, the same for the same
        id until this object goes."""
        self._user_ids = user_ids
        self._omit = frozenset(omit) | (_OF_HISTORY if "history" in omit else frozenset())
        self._of_request = frozenset(OF_REQUEST) - self._omit
        self._of_user = frozenset(OF_USER) - self._omit
        self._keyed = keyed or KeyedHash()

    @property
    def keeps_ids(self) -> bool:
        """Whether ids of users and requests stay as they came."""
        return self._user_ids is UserIds.KEEP

    def request(self, message: bytes) -> bytes:
        """Of a mesh.v1.RetrieveRequest; empty where the bytes are none."""
        return self.redacted(message).content

    def redacted(self, message: bytes) -> RedactedRequest:
        """Of a mesh.v1.RetrieveRequest, and whether it can still be asked."""
        if self._keeps_all:
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
        request.request_id = self._request_id(request.request_id)
        if user is not None:
            had = (user.user_id, user.user_key)
            user.user_id, user.user_key = self._user_id(user.user_id), self._user_key(user.user_key)
            has_history = bool(user.history or user.history_keys)
            is_redacted |= not has_history and (user.user_id, user.user_key) != had
        return RedactedRequest(_bytes(request), is_redacted)

    def answer(self, message: bytes) -> bytes:
        """Of a mesh.v1.RetrieveResponse; empty where the bytes are none."""
        if self._keeps_all:
            return message
        answer = _parsed(pb.RetrieveResponse, message)
        if answer is None:
            return b""
        answer.DiscardUnknownFields()
        _keep(answer, OF_ANSWER)
        answer.request_id = self._request_id(answer.request_id)
        return _bytes(answer)

    @property
    def _keeps_all(self) -> bool:
        return self._user_ids is UserIds.KEEP and not self._omit

    def _user_id(self, user_id: int) -> int:
        match self._user_ids:
            case UserIds.KEEP:
                return user_id
            case UserIds.OMIT:
                return 0
        return self._keyed.user_id(user_id)

    def _user_key(self, user_key: str) -> str:
        match self._user_ids:
            case UserIds.KEEP:
                return user_key
            case UserIds.OMIT:
                return ""
        return self._keyed.user_key(user_key)

    def _request_id(self, request_id: str) -> str:
        """An answer's request id is its request's."""
        match self._user_ids:
            case UserIds.KEEP:
                return request_id
            case UserIds.OMIT:
                return ""
        return self._keyed.request_id(request_id)


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
