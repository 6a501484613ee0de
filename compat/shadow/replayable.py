"""Selects the recorded requests that can be replayed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meshfold.compat.shadow.pairs import Pair
from meshfold.compat.shadow.skipped import Skipped
from meshfold.model.errors import InvalidData

# Reasons under which skipped requests are counted.
REDACTED = "redacted requests, which cannot be asked again"
NO_REQUEST = "pairs without a request"


def replayable(pairs: Iterable[Pair], skipped: Skipped) -> Iterator[Pair]:
    """The pairs whose requests can be replayed. skipped: counts the others.

    Raises InvalidData at the end where none can be replayed, with the first skipped one.
    """
    has_any, first = False, ""
    for pair in pairs:
        if pair.is_redacted:
            skipped.add(REDACTED, f"request {pair.request_id!r}")
            first = first or f"{pair.request_id!r} is redacted; record without recording.omit"
        elif not pair.request:
            skipped.add(NO_REQUEST, f"request {pair.request_id!r}")
            first = first or f"{pair.request_id!r} has no request; expected a mesh.v1.RetrieveRequest"
        else:
            has_any = True
            yield pair
    if first and not has_any:
        raise InvalidData(f"no request can be asked again: {first}")
