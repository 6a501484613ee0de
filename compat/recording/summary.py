"""Summarises a recording by answering side, and extracts its requests for replay."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import DecodeError
from google.protobuf.proto import serialize_length_prefixed

from meshfold.compat.recording.record_files import read_records, record_files
from meshfold.model.errors import InvalidData
from meshfold.protos.mesh.v1 import orchestrator_pb2 as mesh


@dataclass
class Group:
    """Records with equal surface, mode, side, shadow, fallback and status. took_s: of each record."""

    surface: str
    mode: str
    side: str
    shadow: bool
    fallback: str
    code: int
    took_s: list[float]


def groups(place: Path) -> Sequence[Group]:
    """The groups of a file or folder of records, sorted. Raises InvalidData."""
    found: dict[tuple[str, str, str, bool, str, int], Group] = {}
    for record in read_records(place):
        key = (record.surface, record.mode, record.side, record.shadow, record.fallback, record.code)
        found.setdefault(key, Group(*key, [])).took_s.append(record.took_s)
    return [found[key] for key in sorted(found)]


def write_requests(place: Path, out: Path) -> int:
    """Writes the requests of a recording as length-prefixed mesh.v1.RetrieveRequest, readable by their owner alone;
    returns their number.

    Leaves out requests that cannot be parsed, and those of mapped methods. Raises InvalidData.
    """
    new = out.with_name(out.name + ".new")
    recorded = [path for path, _, _ in record_files(place)] if place.is_dir() else [place]
    try:
        if any(out.exists() and path.exists() and out.samefile(path) for path in recorded):
            raise InvalidData(f"{out} is part of the recording; name another file")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                written = _write_requests(place, file)
            new.replace(out)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InvalidData(f"{out} cannot be written: {error.strerror}") from None
    return written


def _write_requests(place: Path, file: BinaryIO) -> int:
    written = mapped = 0
    for record in read_records(place):
        if record.shadow or not record.request:
            continue
        if record.method:
            mapped += 1
            continue
        try:
            request = mesh.RetrieveRequest.FromString(record.request)
        except DecodeError:
            continue
        serialize_length_prefixed(request, file)
        written += 1
    if mapped and not written:
        raise InvalidData(
            f"{place} holds requests of callers' own protocols alone, {mapped} of them; "
            "`meshfold replay --mapping FILE` asks them again"
        )
    return written
