"""Redaction of pairs: leaves out fields that the protocol marks as personal, and fields that the operator names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from meshfold.compat.key import KeyedHash
from meshfold.compat.recording.redaction import PERSONAL, Redaction, UserIds
from meshfold.compat.shadow.pairs import Pair
from meshfold.model.errors import InvalidConfig

FILTER, REQUEST, USER_KEY, SLICES = "filter", "request", "user_key", "slices"
# Prefix of the name of one slice.
SLICE_PREFIX = "slices."
OMITTABLE = (FILTER, REQUEST, USER_KEY, SLICES, f"{SLICE_PREFIX}NAME")


class PairRedaction:
    """Redacts pairs: hashes the ids in a pair's request and removes history, features and exclusions.

    The pair's own request_id and user_key stay, since request_facts.py has hashed them, or the author of an imported
    file has chosen them. A pair that lost a field on which its answer may depend is marked with is_redacted.
    """

    def __init__(
        self, keyed: KeyedHash | None = None, keep_requests: bool = False, omit: Collection[str] = ()
    ) -> None:
        """keep_requests: whether requests stay whole, so that they can be replayed. omit: names in OMITTABLE.

        Raises InvalidConfig.
        """
        for name in omit:
            if name not in OMITTABLE[:-1] and not name.startswith(SLICE_PREFIX):
                raise InvalidConfig(
                    f"what is left out of pairs is one of {', '.join(OMITTABLE)}, got {name!r}"
                )
        self._redaction = None if keep_requests else Redaction(UserIds.HASH, PERSONAL, keyed)
        self._omit = frozenset(omit)
        self._slices = frozenset(n.removeprefix(SLICE_PREFIX) for n in omit if n.startswith(SLICE_PREFIX))

    def __call__(self, pair: Pair) -> Pair:
        """The redacted pair."""
        request, is_redacted = pair.request, pair.is_redacted
        if request and self._redaction is not None:
            redacted = self._redaction.redacted(request)
            request, is_redacted = redacted.content, is_redacted or redacted.is_redacted
        # The request contains the filter, too.
        if request and self._omit & {REQUEST, FILTER}:
            request, is_redacted = b"", True
        slices = {
            name: value
            for name, value in pair.slices.items()
            if SLICES not in self._omit and name not in self._slices
        }
        return replace(
            pair,
            request=request,
            is_redacted=is_redacted,
            filter=None if FILTER in self._omit else pair.filter,
            user_key="" if USER_KEY in self._omit else pair.user_key,
            slices=slices,
        )


def names_in(text: str) -> Sequence[str]:
    """The names in a comma-separated list."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
