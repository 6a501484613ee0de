"""Requests of a caller's protocol in files: as bytes, or as protobuf's JSON in *.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.mapped.adapter import MappedAdapter
from meshfold.compat.wire_values import is_map, is_repeated
from meshfold.model.errors import InvalidData

_MOST_BYTES = 64 << 20


def requests_of(place: Path, adapter: MappedAdapter) -> Iterator[tuple[Path, bytes]]:
    """Of a file, or of all files of a folder, in the order of their names. Raises InvalidData."""
    if not place.exists():
        raise InvalidData(f"{place} is not there; name a file of one request, or a folder of such files")
    for file in sorted(place.iterdir()) if place.is_dir() else [place]:
        if file.is_file():
            yield file, _request(file, adapter)


def _request(file: Path, adapter: MappedAdapter) -> bytes:
    if file.stat().st_size > _MOST_BYTES:
        raise InvalidData(f"{file} has more than {_MOST_BYTES} bytes")
    content = file.read_bytes()
    if file.suffix != ".json":
        return content
    pool: DescriptorPool = adapter.POOL
    kind = GetMessageClass(adapter.descriptor.input_type)
    try:
        message = json_format.Parse(content, kind(), descriptor_pool=pool)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        told = " ".join(str(error).split())
        raise InvalidData(f"{file} is no {kind.DESCRIPTOR.full_name} in JSON: {told:.300}") from None
    encoded: bytes = message.SerializePartialToString()
    return encoded


def ignored(adapter: MappedAdapter, message: Any) -> Counter[str]:
    """Fields that a parsed request sets and the mapping ignores, and how often, by path."""
    found: Counter[str] = Counter()
    used = adapter.request.scope.used
    _walk(message, (), used, found)
    return found


def _walk(message: Any, names: tuple[str, ...], used: set[tuple[str, ...]], found: Counter[str]) -> None:
    for field, value in message.ListFields():
        here = (*names, field.name)
        if here in used:
            continue
        if not any(each[: len(here)] == here for each in used):
            found[".".join(here)] += 1
            continue
        held = value.values() if is_map(field) else value if is_repeated(field) else [value]
        for each in held:
            if hasattr(each, "ListFields"):
                _walk(each, here, used, found)
