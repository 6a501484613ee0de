"""Recordings of made calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from meshfold.compat.recording.record_files import FileLimits, RecordFiles
from meshfold.protos.mesh.v1 import orchestrator_pb2 as mesh
from meshfold.protos.meshfold.v1 import recording_pb2 as pb

LIMITS = FileLimits(1 << 20, 1 << 30, 1e6)


def answer(*item_ids: int | str) -> bytes:
    """Values fall from 1."""
    response = mesh.RetrieveResponse(tasks=["watch"], versions={"index": "v1"})
    for place, item_id in enumerate(item_ids):
        response.candidates.add(
            value=1 - place / 1000, **{"item_key" if isinstance(item_id, str) else "item_id": item_id}
        )
    message: bytes = response.SerializeToString()
    return message


def record(call: int, side: str, content: bytes, request: bytes = b"", **fields: Any) -> pb.Recorded:
    given = {"unix_ms": 1_800_000_000_000, "surface": "shop", "mode": "mirror", "took_s": 0.25, **fields}
    return pb.Recorded(call=call, side=side, answer=content, request=request, **given)


def write_records(folder: Path, *records: pb.Recorded, limits: FileLimits = LIMITS) -> Path:
    files = RecordFiles(folder, limits)
    for one in records:
        files.append(one.SerializeToString())
    files.close()
    return folder
