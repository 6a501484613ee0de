"""What a recording holds: counts by who answered, and its requests for replay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.proto import serialize_length_prefixed

from meshfold.compat.recording.record_files import read_records
from meshfold.protos.mesh.v1 import orchestrator_pb2 as mesh


@dataclass
class Group:
    """Records that have surface, mode, side, shadow, fallback and status in common. took_s: of each."""

    surface: str
    mode: str
    side: str
    shadow: bool
    fallback: str
    code: int
    took_s: list[float]


def groups(place: Path) -> Sequence[Group]:
    """Of a file or a folder, by their names. Raises InvalidData."""
    found: dict[tuple[str, str, str, bool, str, int], Group] = {}
    for record in read_records(place):
        key = (record.surface, record.mode, record.side, record.shadow, record.fallback, record.code)
        found.setdefault(key, Group(*key, [])).took_s.append(record.took_s)
    return [found[key] for key in sorted(found)]


def write_requests(place: Path, out: Path) -> int:
    """The requests of a recording, as length-prefixed mesh.v1.RetrieveRequest. How many. Raises InvalidData."""
    written = 0
    with out.open("wb") as file:
        for record in read_records(place):
            if not record.shadow and record.request:
                serialize_length_prefixed(mesh.RetrieveRequest.FromString(record.request), file)
                written += 1
    return written
