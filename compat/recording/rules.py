"""Rules of redaction for all protocols: handling of ids, and omitted fields."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from meshfold.compat.key import KeyedHash


class UserIds(StrEnum):
    HASH = "hash"
    OMIT = "omit"
    KEEP = "keep"


class Rules:
    """The operator's rules. A request id, which may contain an id of a user or a session, is treated like a user id."""

    def __init__(self, user_ids: UserIds, omit: Collection[str] = (), keyed: KeyedHash | None = None) -> None:
        """omit: the fields of service.recording.PERSONAL to remove. keyed: None for hashes with a random key of this
        object."""
        self._user_ids = user_ids
        self.omit = frozenset(omit)
        self._keyed = keyed or KeyedHash()

    @property
    def keeps_ids(self) -> bool:
        """Whether ids of users and requests stay unchanged."""
        return self._user_ids is UserIds.KEEP

    @property
    def keeps_all(self) -> bool:
        """Whether nothing personal is replaced or removed."""
        return self.keeps_ids and not self.omit

    def user_id(self, user_id: int) -> int:
        """The recorded integer id of a user; 0 where ids are omitted."""
        match self._user_ids:
            case UserIds.KEEP:
                return user_id
            case UserIds.OMIT:
                return 0
        return self._keyed.user_id(user_id)

    def user_key(self, user_key: str) -> str:
        """The recorded string id of a user; empty where ids are omitted."""
        match self._user_ids:
            case UserIds.KEEP:
                return user_key
            case UserIds.OMIT:
                return ""
        return self._keyed.user_key(user_key)

    def request_id(self, request_id: str) -> str:
        """The recorded id of a request or its answer; empty where ids are omitted."""
        match self._user_ids:
            case UserIds.KEEP:
                return request_id
            case UserIds.OMIT:
                return ""
        return self._keyed.request_id(request_id)
