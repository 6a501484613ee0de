"""Numbers as protobuf writes them."""

from __future__ import annotations


def varint(number: int) -> bytes:
    """A number from 0 in groups of 7 bits, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
