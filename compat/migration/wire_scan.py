"""Surface and user of a request, read from the wire without parsing the rest.

Fields are walked by their lengths; of mesh.v1.RetrieveRequest three are read: request_id = 1, surface = 2 and
user = 3, of which user_id = 1. As protobuf has it the last one counts, and a message that comes in parts is merged.
Source: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from dataclasses import dataclass

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_REQUEST_ID = 1 << 3 | _BYTES
_SURFACE = 2 << 3 | _BYTES
_USER = 3 << 3 | _BYTES
_USER_ID = 1 << 3 | _VARINT
_64_BITS = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Scanned:
    """user_id: as 64 unsigned bits; 0 where there is none."""

    surface: str
    user_id: int
    request_id: bytes


def scan(message: bytes) -> Scanned | None:
    """None where the bytes are no message, or have groups, which proto3 has not."""
    try:
        return _scan(message)
    # Past the end; what does not fit; a surface that is no UTF-8.
    except (IndexError, ValueError):
        return None


def _scan(message: bytes) -> Scanned:
    surface = request_id = b""
    user_id = place = 0
    end = len(message)
    while place < end:
        tag, place = _varint(message, place)
        after = _after(message, place, tag)
        if tag == _SURFACE:
            surface = _content(message, place, after)
        elif tag == _REQUEST_ID:
            request_id = _content(message, place, after)
        elif tag == _USER:
            _, start = _varint(message, place)
            user_id = _user_id(message, start, after, user_id)
        place = after
    if place > end:
        raise ValueError("cut off")
    return Scanned(surface.decode(), user_id, request_id)


def _user_id(message: bytes, place: int, end: int, user_id: int) -> int:
    """The last one between place and end, else the one given."""
    while place < end:
        tag, place = _varint(message, place)
        if tag == _USER_ID:
            user_id, place = _varint(message, place)
            user_id &= _64_BITS
        else:
            place = _after(message, place, tag)
    if place > end:
        raise ValueError("cut off")
    return user_id


def _content(message: bytes, place: int, after: int) -> bytes:
    _, start = _varint(message, place)
    return message[start:after]


def _after(message: bytes, place: int, tag: int) -> int:
    """Where the field that has its content at `place` ends."""
    kind = tag & 7
    if tag < 8:
        raise ValueError("field 0")
    if kind == _BYTES:
        length, start = _varint(message, place)
        return start + length
    if kind == _VARINT:
        return _varint(message, place)[1]
    if kind == _FIXED32:
        return place + 4
    if kind == _FIXED64:
        return place + 8
    raise ValueError("a group")


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """The number at `place`, and where it ends. Seven bits a byte, the lowest first, ten bytes at most."""
    byte = message[place]
    if byte < 0x80:
        return byte, place + 1
    number = byte & 0x7F
    for shift in range(7, 70, 7):
        place += 1
        byte = message[place]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place + 1
    raise ValueError("a number of more than ten bytes")
