"""On which side of a canary a user stands.

A user has a fixed place from 0 to 2^64 on each surface: the first 8 bytes of SHA-256 over the surface's name, which is
the salt, and the user's id. The integer 7 and the string "7" are two users. The model answers those whose place lies
below the percentage. So a user stays where he is while the percentage does; raising it only ever moves users to the
model, lowering it only ever back; and other surfaces draw other users. Servers agree without talking to one another.

A request without a user id stands by its request id, so that a retry finds the same side; without either, by its bytes.
"""

from __future__ import annotations

import hashlib

from meshfold.compat.migration.wire_scan import Scanned, scan

PLACES = 1 << 64
# Of a long message, its length and so many bytes at each end stand for it.
_ENDS = 32 << 10


def chosen(percent: float, surface: str, scanned: Scanned | None, message: bytes) -> bool:
    """Whether the model answers, at `percent` of users (0 to 100)."""
    return place(surface, _key(scanned, message)) < int(percent / 100 * PLACES)


def shadowed(share: float, surface: str, scanned: Scanned | None, message: bytes) -> bool:
    """Whether the other side is asked, too, for `share` of users (0 to 1), on whichever side they stand."""
    return share > 0 and place(surface, b"shadow " + _key(scanned, message)) < int(share * PLACES)


def place(surface: str, key: bytes) -> int:
    """From 0 to 2^64, evenly."""
    name = surface.encode()
    digest = hashlib.sha256(len(name).to_bytes(4, "big") + name + key).digest()
    return int.from_bytes(digest[:8], "big")


def _key(scanned: Scanned | None, message: bytes) -> bytes:
    """Begins with the kind of what follows, so that no key of one kind equals one of another."""
    if scanned is not None and scanned.user_id:
        return b"user" + scanned.user_id.to_bytes(8, "big")
    if scanned is not None and scanned.user_key:
        return b"key" + scanned.user_key
    if scanned is not None and scanned.request_id:
        return b"request" + scanned.request_id
    return _bytes_key(message)


def request_key(message: bytes, request_id: bytes | None = None) -> bytes:
    """Of a request, whoever asks: its request id, else its bytes. request_id: None to read it as mesh.v1's."""
    if request_id is None:
        scanned = scan(message)
        request_id = scanned.request_id if scanned is not None else b""
    return b"request" + request_id if request_id else _bytes_key(message)


def _bytes_key(message: bytes) -> bytes:
    if len(message) > 2 * _ENDS:
        message = b"%d" % len(message) + message[:_ENDS] + message[-_ENDS:]
    return b"bytes" + message
