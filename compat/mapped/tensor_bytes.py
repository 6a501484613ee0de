"""Converts numbers and strings to raw bytes and back: little-endian, each string after a four-byte length (KServe
v2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

STRINGS = "strings"
# numpy types by the words of a mapping.
NUMBERS: Mapping[str, str] = {
    "bool": "?",
    "uint8": "u1",
    "uint16": "<u2",
    "uint32": "<u4",
    "uint64": "<u8",
    "int8": "i1",
    "int16": "<i2",
    "int32": "<i4",
    "int64": "<i8",
    "float16": "<f2",
    "float32": "<f4",
    "float64": "<f8",
}
WORDS = (*NUMBERS, STRINGS)
# KServe's names of data types by the words of a mapping; a mapping may give others.
KSERVE: Mapping[str, str] = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    STRINGS: "BYTES",
}
_LENGTH = 4
_MOST_STRINGS = 131_072


def kind_of_word(word: str) -> str:
    """The kind of a word: string, integer, number or bool."""
    if word == STRINGS:
        return "string"
    if word == "bool":
        return "bool"
    return "number" if word.startswith("float") else "integer"


def read(content: bytes, word: str) -> Any:
    """Decodes raw bytes: [n] numbers, or a tuple of n strings. Raises ValueError with the expected form."""
    if word == STRINGS:
        return _strings(content)
    dtype = np.dtype(NUMBERS[word])
    if len(content) % dtype.itemsize:
        raise ValueError(f"must have {dtype.itemsize} bytes for each {word}, got {len(content)} bytes")
    return widened(np.frombuffer(content, dtype))


def widened(values: Any) -> Any:
    """Converts numbers to int64, float64 or bool. Raises ValueError for a number of 2^63 or more."""
    kind = values.dtype.kind
    if kind == "u" and values.size and int(values.max()) >= 1 << 63:
        raise ValueError(f"must be below 2^63, got {values.max()}")
    return values if kind == "b" else values.astype(np.float64 if kind == "f" else np.int64)


def written(values: Any, word: str) -> bytes:
    """Encodes numbers or strings as raw bytes. Raises ValueError where a number does not fit."""
    if word == STRINGS:
        held = [value.encode() for value in values]
        return b"".join(len(each).to_bytes(_LENGTH, "little") + each for each in held)
    content: bytes = fitted(values, word).tobytes()
    return content


def fitted(values: Any, word: str) -> Any:
    """Converts numbers to a flat array of a word's type. Raises ValueError where one does not fit."""
    dtype = np.dtype(NUMBERS[word])
    found = np.asarray(values)
    if dtype.kind in "iu" and found.size:
        limits = np.iinfo(dtype)
        if int(found.min()) < limits.min or int(found.max()) > limits.max:
            raise ValueError(
                f"must lie from {limits.min} to {limits.max}, got {found.min()} to {found.max()}"
            )
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(found, dtype)


def _strings(content: bytes) -> Sequence[str]:
    found: list[str] = []
    place = 0
    while place < len(content):
        start = place + _LENGTH
        end = start + int.from_bytes(content[place:start], "little")
        if start > len(content) or end > len(content):
            raise ValueError("ends within a string; each is its length in 4 bytes, then its bytes")
        try:
            found.append(content[start:end].decode())
        except UnicodeDecodeError:
            raise ValueError(f"string {len(found)} is not UTF-8") from None
        if len(found) > _MOST_STRINGS:
            raise ValueError(f"has more than {_MOST_STRINGS} strings")
        place = end
    return tuple(found)
