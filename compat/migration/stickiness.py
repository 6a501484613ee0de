"""The side of a user in a canary.

A user has a fixed place from 0 to 2^64 on each surface: the first 8 bytes of SHA-256 over the surface's name, as a
salt, and the user's id. The integer 7 and the string "7" are two users. The model answers users whose place is below
the percentage. So a user's side changes only with the percentage: raising it moves users only to the model, lowering it
only back. Surfaces select different users, and servers agree without communication.

A request without a user id is placed by its request id, so that a retry gets the same side; without either, by its
bytes.
"""

from __future__ import annotations

import hashlib

from meshfold.compat.migration.wire_scan import Scanned, scan

PLACES = 1 << 64
# A longer message is hashed by its length and this many bytes at each end.
_ENDS = 32 << 10


def chosen(percent: float, surface: str, scanned: Scanned | None, message: bytes) -> bool:
    """Whether the model answers a request, for `percent` of users (0 to 100)."""
    return place(surface, _key(scanned, message)) < int(percent / 100 * PLACES)


def shadowed(share: float, surface: str, scanned: Scanned | None, message: bytes) -> bool:
    """Whether the other side is called, too, for `share` of users (0 to 1) of either side."""
    return share > 0 and place(surface, b"shadow " + _key(scanned, message)) < int(share * PLACES)


def place(surface: str, key: bytes) -> int:
    """The place of a key, uniform from 0 to 2^64."""
    name = surface.encode()
    digest = hashlib.sha256(len(name).to_bytes(4, "big") + name + key).digest()
    return int.from_bytes(digest[:8], "big")


def _key(scanned: Scanned | None, message: bytes) -> bytes:
    """The key of a request. It begins with its kind, so that keys of different kinds are never equal."""
    if scanned is not None and scanned.user_id:
        return b"user" + scanned.user_id.to_bytes(8, "big")
    if scanned is not None and scanned.user_key:
        return b"key" + scanned.user_key
    if scanned is not None and scanned.request_id:
        return b"request" + scanned.request_id
    return _bytes_key(message)


def request_key(message: bytes, request_id: bytes | None = None) -> bytes:
    """The key of a request apart from its user: its request id, else its bytes. request_id: None to read it as
    mesh.v1's."""
    if request_id is None:
        scanned = scan(message)
        request_id = scanned.request_id if scanned is not None else b""
    return b"request" + request_id if request_id else _bytes_key(message)


def _bytes_key(message: bytes) -> bytes:
    if len(message) > 2 * _ENDS:
        message = b"%d" % len(message) + message[:_ENDS] + message[-_ENDS:]
    return b"bytes" + message
