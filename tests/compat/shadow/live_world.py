"""Pairs, senders and waiting for the tests of live comparison."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc
import pyarrow.parquet as pq

from meshfold.compat.migration.bounded_queue import BoundedQueue
from meshfold.compat.shadow.live.asked_pair import AskedPair
from meshfold.compat.shadow.live.sender import Sender
from meshfold.compat.shadow.live.worker_settings import WorkerSettings
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.service.comparison import ComparisonConfig
from meshfold.service.front import Answered, Outcome, Reply, Side


def answer(item_ids: Iterable[int], version: str = "of-the-mesh") -> bytes:
    """The bytes of an answer with these items, values falling from 1."""
    ids = tuple(item_ids)
    response = pb.RetrieveResponse(tasks=["like"], versions={"index": version})
    for place, item_id in enumerate(ids):
        response.candidates.add(item_id=item_id, value=1 - place / (len(ids) + 1))
    message: bytes = response.SerializeToString()
    return message


def pair(number: int = 0, mesh: bytes = b"", model: bytes = b"", request: bytes = b"") -> AskedPair:
    """Of a call in mirror. mesh, model: answers; b"" for five items."""
    message = request or pb.RetrieveRequest(request_id=f"request {number}").SerializeToString()
    outcomes = [
        Outcome(side, Reply(reply or answer(range(1, 6))), grpc.StatusCode.OK, 0.01)
        for side, reply in ((Side.MESH, mesh), (Side.MODEL, model))
    ]
    answered = Answered(number, "shop", "mirror", message, outcomes[0], "", 0.01)
    return AskedPair(1_700_000_000_000, answered, outcomes[1])


def sender(folder: Path, queue: int = 100, **settings: Any) -> Sender:
    """Not started. Files are written every second."""
    given = {"folder": str(folder), "file_age_s": 0.5, **settings}
    config = ComparisonConfig(on=True, queue=queue, **given)
    return Sender(WorkerSettings.of(config, folder / "none").to_json(), BoundedQueue(config.queue))


def rows(folder: Path) -> list[dict[str, Any]]:
    """Of all files, as pyarrow reads them."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.parquet")):
        found += pq.read_table(path).to_pylist()
    return found


def workers() -> list[int]:
    """Comparing processes of this process, by /proc."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except (OSError, IndexError):
            continue
        if b"meshfold.compat.shadow.live" in words and int(parent) == os.getpid():
            found.append(int(folder.name))
    return found
