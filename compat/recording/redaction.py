"""A request less what is personal."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection
from enum import StrEnum

from google.protobuf.message import DecodeError

from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb

# Of the user, besides the id. Without them an answer cannot be asked for again.
PERSONAL = ("history", "features")


class UserIds(StrEnum):
    HASH = "hash"
    OMIT = "omit"
    KEEP = "keep"


class Redaction:
    """omit: those of PERSONAL that are left out.

    A hashed id is a number, the same for the same user until the server ends: its key is random and written nowhere.
    """

    def __init__(self, user_ids: UserIds, omit: Collection[str]) -> None:
        self._user_ids = user_ids
        self._omit = tuple(omit)
        self._key = secrets.token_bytes(32)

    def redacted(self, message: bytes) -> bytes:
        """The request's bytes, as they came where nothing is redacted; empty where they are no request."""
        if self._user_ids is UserIds.KEEP and not self._omit:
            return message
        try:
            request = pb.RetrieveRequest.FromString(message)
        except DecodeError:
            return b""
        for name in self._omit:
            request.user.ClearField(name)
        if self._user_ids is UserIds.OMIT:
            request.user.ClearField("user_id")
        elif self._user_ids is UserIds.HASH and request.user.user_id:
            request.user.user_id = self._hashed(request.user.user_id)
        redacted: bytes = request.SerializeToString()
        return redacted

    def _hashed(self, user_id: int) -> int:
        """From 1 to 2^63 - 1."""
        digest = hmac.digest(self._key, user_id.to_bytes(8, "big", signed=True), hashlib.sha256)
        return (int.from_bytes(digest[:8], "big") >> 1) or 1
