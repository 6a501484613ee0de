"""Reads messages of a caller's protocol from files: as bytes, as protobuf's JSON in *.json, or in a recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.mapped.adapter import MappedAdapter
from meshfold.compat.recording.record_files import read_records, record_files
from meshfold.compat.wire_values import is_map, is_repeated
from meshfold.model.errors import InvalidData

_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Sent:
    """A request. where: its place in words. metadata: the caller's metadata that the mapping reads. left_out: paths of
    fields that were set, but removed from the recording."""

    where: str
    message: bytes
    metadata: Mapping[str, str] = field(default_factory=dict)
    left_out: Sequence[str] = ()


def requests_of(place: Path, adapter: MappedAdapter) -> Iterator[Sent]:
    """The requests of a file, of a folder's files in the order of their names, or of a recording. Raises
    InvalidData."""
    if not place.exists():
        raise InvalidData(
            f"{place} is not there; name a file of one request, a folder of such files, or a recording"
        )
    if record_files(place) if place.is_dir() else place.name.startswith("recorded-"):
        yield from _recorded(place, adapter)
        return
    for file in sorted(place.iterdir()) if place.is_dir() else [place]:
        if file.is_file():
            yield Sent(str(file), message_of(file, adapter.descriptor.input_type, adapter.POOL))


def _recorded(place: Path, adapter: MappedAdapter) -> Iterator[Sent]:
    for record in read_records(place):
        if record.method == adapter.METHOD and not record.shadow:
            where = f"call {record.call:016x}"
            yield Sent(where, record.request, dict(record.metadata), tuple(record.left_out))


def message_of(file: Path, descriptor: Descriptor, pool: DescriptorPool) -> bytes:
    """The bytes of a message in a file of bytes or of protobuf's JSON. Raises InvalidData."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise InvalidData(f"{file} has more than {_MOST_BYTES} bytes")
        content = file.read_bytes()
    except OSError as error:
        raise InvalidData(f"{file} cannot be read: {error.strerror}") from None
    if file.suffix != ".json":
        return content
    kind = GetMessageClass(descriptor)
    try:
        message = json_format.Parse(content, kind(), descriptor_pool=pool)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InvalidData(f"{file} is no {kind.DESCRIPTOR.full_name} in JSON: {reason:.300}") from None
    encoded: bytes = message.SerializePartialToString()
    return encoded


def ignored(adapter: MappedAdapter, message: Any) -> Counter[str]:
    """Counts the fields, by path, that a parsed request sets and the mapping ignores."""
    found: Counter[str] = Counter()
    used = adapter.request.scope.used
    _walk(message, (), used, found)
    return found


def _walk(message: Any, names: tuple[str, ...], used: set[tuple[str, ...]], found: Counter[str]) -> None:
    for held, value in message.ListFields():
        here = (*names, held.name)
        if here in used:
            continue
        if not any(each[: len(here)] == here for each in used):
            found[".".join(here)] += 1
            continue
        for each in value.values() if is_map(held) else value if is_repeated(held) else [value]:
            if hasattr(each, "ListFields"):
                _walk(each, here, used, found)
