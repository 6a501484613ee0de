"""What of a pair is written: nothing that a protocol calls personal, and nothing that the operator names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from meshfold.compat.key import KeyedHash
from meshfold.compat.recording.redaction import PERSONAL, Redaction, UserIds
from meshfold.compat.shadow.pairs import Pair
from meshfold.model.errors import InvalidConfig

FILTER, REQUEST, USER_KEY, SLICES = "filter", "request", "user_key", "slices"
# A slice of the name behind it.
SLICE_PREFIX = "slices."
OMITTABLE = (FILTER, REQUEST, USER_KEY, SLICES, f"{SLICE_PREFIX}NAME")


class PairRedaction:
    """Of the request inside a pair: ids are hashed, history, features and exclusions are left out.

    The pair's own request_id and user_key stay: who makes a pair of a request hashes both (request_facts.py), and who
    writes a file for others to compare says there what may be said. A pair that lost what its answer may depend on says
    so (is_redacted).
    """

    def __init__(
        self, keyed: KeyedHash | None = None, keep_requests: bool = False, omit: Collection[str] = ()
    ) -> None:
        """keep_requests: requests stay as they came, so that they can be asked again. omit: of OMITTABLE.

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
        """The pair that may be written."""
        request, is_redacted = pair.request, pair.is_redacted
        if request and self._redaction is not None:
            redacted = self._redaction.redacted(request)
            request, is_redacted = redacted.content, is_redacted or redacted.is_redacted
        # A filter stands in the request too.
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
    """The names of a list with commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
