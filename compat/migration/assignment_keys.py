"""Hashes of ids in the assignment log, for joining it with other tables."""

from __future__ import annotations

from meshfold.compat.key import KeyedHash


class AssignmentKeys:
    """Hashes of ids with the operator's key, the same as in pairs of a comparison."""

    def __init__(self, keyed: KeyedHash) -> None:
        self._keyed = keyed

    def user(self, user: int | str) -> str:
        """The hash of a user in hexadecimal digits; "" without a user. The integer 7 and the string "7" are two
        users."""
        if isinstance(user, str):
            return self._keyed.user_key(user)
        return f"{self._keyed.user_id(user):016x}" if user else ""

    def request(self, request_id: str) -> str:
        return self._keyed.request_id(request_id)
