"""Sampling of calls by a hash of the request id, so that all servers and restarts choose the same calls."""

from __future__ import annotations

from meshfold.compat.migration.stickiness import PLACES, place, request_key
from meshfold.service.comparison import ComparisonConfig

_PAIR, _AGAIN = b"pair ", b"again "


class Sampling:
    """Chooses calls. A call without a request id is hashed by its bytes. request_id: that of a mapped request; None to
    read it from a mesh.v1 message."""

    def __init__(self, config: ComparisonConfig) -> None:
        self._share = config.share
        self._shares = config.shares

    def takes(self, surface: str, message: bytes, request_id: bytes | None = None) -> bool:
        """Whether a call's answers are compared."""
        return _is_below(self._shares.get(surface, self._share), _PAIR, message, request_id)


def asks_again(share: float, message: bytes, request_id: bytes | None = None) -> bool:
    """Whether the mesh is called again, for a `share` of the pairs. A larger share includes those of a smaller."""
    return _is_below(share, _AGAIN, message, request_id)


def _is_below(share: float, purpose: bytes, message: bytes, request_id: bytes | None) -> bool:
    if share <= 0:
        return False
    return share >= 1 or place("", purpose + request_key(message, request_id)) < int(share * PLACES)
