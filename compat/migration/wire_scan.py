"""Reads surface, user and request id of a RetrieveRequest from the wire, without parsing the rest.

As in protobuf, the last value of a field counts, and a message in several parts is merged.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshfold.compat.wire import Scanner
from meshfold.kernels.wire.table import Verdict
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb

# Most fields scanned, twice the default limit of a model.
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
    """A scanned request. user_id: unsigned 64-bit; 0 where there is none. user_key: the id of a user with a string
    id."""

    surface: str
    user_id: int
    request_id: bytes
    user_key: bytes = b""


def scan(message: bytes) -> Scanned | None:
    """Scans a message; None where it cannot be parsed, has groups, which proto3 lacks, or more than MOST_FIELDS
    fields."""
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
