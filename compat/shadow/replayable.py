"""Which recorded requests can be asked again."""

from __future__ import annotations

from meshfold.compat.shadow.pairs import Pair

REDACTED = "redacted requests that cannot be replayed"
NO_REQUEST = "pairs without a request"


def refusal(pair: Pair) -> str:
    """Why the request cannot be asked again, as what it is counted under; "" where it can."""
    if pair.is_redacted:
        return REDACTED
    return "" if pair.request else NO_REQUEST
