"""Surface, user and request id of a RetrieveRequest, read from the wire without parsing the rest.

As protobuf has it the last one counts, and a message that comes in parts is merged.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshfold.compat.wire import Scanner
from meshfold.kernels.wire.table import Verdict
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb

# Twice as many as a model takes by default.
MOST_FIELDS = 1 << 18

_SURFACE, _REQUEST_ID, _USER_ID, _USER_KEY = range(4)
_SCANNER = Scanner(
    pb.RetrieveRequest.DESCRIPTOR,
    captures=(
        "RetrieveRequest.surface",
        "RetrieveRequest.request_id",
        "UserContext.user_id",
        "UserContext.user_key",
    ),
)
_64_BITS = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Scanned:
    """user_id: as 64 unsigned bits; 0 where there is none. user_key: the id of a user whose ids are strings."""

    surface: str
    user_id: int
    request_id: bytes
    user_key: bytes = b""


def scan(message: bytes) -> Scanned | None:
    """None where the bytes are no message, have groups, which proto3 has not, or have more than MOST_FIELDS fields."""
    scanned = _SCANNER.scan(message, MOST_FIELDS)
    if scanned.verdict != Verdict.MESSAGE:
        return None
    try:
        surface = message[slice(*scanned.span(_SURFACE))].decode()
    except UnicodeDecodeError:
        return None
    return Scanned(
        surface,
        scanned.number(_USER_ID) & _64_BITS,
        message[slice(*scanned.span(_REQUEST_ID))],
        message[slice(*scanned.span(_USER_KEY))],
    )
