"""What of a call is kept in recordings, whatever its protocol: ids of users and requests, and what is left out."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from meshfold.compat.key import KeyedHash


class UserIds(StrEnum):
    HASH = "hash"
    OMIT = "omit"
    KEEP = "keep"


class Rules:
    """The operator's. A request id, which may hold a user's id or a session's, is treated as user ids are."""

    def __init__(self, user_ids: UserIds, omit: Collection[str] = (), keyed: KeyedHash | None = None) -> None:
        """omit: those of service.recording.PERSONAL that are left out. keyed: None for hashes under a random key, the
        same for the same id until this object goes."""
        self._user_ids = user_ids
        self.omit = frozenset(omit)
        self._keyed = keyed or KeyedHash()

    @property
    def keeps_ids(self) -> bool:
        """Whether ids of users and requests stay as they came."""
        return self._user_ids is UserIds.KEEP

    @property
    def keeps_all(self) -> bool:
        """Whether nothing personal is replaced or left out."""
        return self.keeps_ids and not self.omit

    def user_id(self, user_id: int) -> int:
        """0 where ids are left out."""
        match self._user_ids:
            case UserIds.KEEP:
                return user_id
            case UserIds.OMIT:
                return 0
        return self._keyed.user_id(user_id)

    def user_key(self, user_key: str) -> str:
        """Empty where ids are left out."""
        match self._user_ids:
            case UserIds.KEEP:
                return user_key
            case UserIds.OMIT:
                return ""
        return self._keyed.user_key(user_key)

    def request_id(self, request_id: str) -> str:
        """Empty where ids are left out. An answer's request id is its request's."""
        match self._user_ids:
            case UserIds.KEEP:
                return request_id
            case UserIds.OMIT:
                return ""
        return self._keyed.request_id(request_id)
