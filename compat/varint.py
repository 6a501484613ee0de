"""Varints, protobuf's encoding of integers."""

from __future__ import annotations


def varint(number: int) -> bytes:
    """Encodes a number of at least 0 in groups of 7 bits, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
