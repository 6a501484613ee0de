"""Cost of a mapping: mesh.v1 as a mapping beside the built-in adapter, from a request's bytes to an answer's.

Both measure and decode the same requests and encode the same answers, in turn; the forward pass between is left out.
Prints microseconds a request, the least of all rounds.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from typing import TypeVar

import numpy as np
from google.protobuf import descriptor_pb2

from benchmarks.arguments import arguments
from benchmarks.report import bench
from meshfold.compat.mapped.adapter import MappedAdapter
from meshfold.compat.mapped.compile import load
from meshfold.compat.mesh_v1 import retrieve
from meshfold.model.limits import Limits
from meshfold.model.types import Candidates
from meshfold.protos.mesh.v1 import orchestrator_pb2, types_pb2
from meshfold.service.work import Adapter

_MAPPING = Path(__file__).parent.parent / "tests" / "compat" / "mapped" / "mesh_v1.toml"
_REQUESTS, _RESULTS, _ROUNDS = 2000, 100, 7
_LIMITS = Limits()

Query = TypeVar("Query")


def _mapped() -> MappedAdapter:
    with tempfile.TemporaryDirectory() as folder:
        files = descriptor_pb2.FileDescriptorSet()
        for module in (types_pb2, orchestrator_pb2):
            module.DESCRIPTOR.CopyToProto(files.file.add())
        (Path(folder) / "mesh_v1.binpb").write_bytes(files.SerializeToString())
        (Path(folder) / "mapping.toml").write_bytes(_MAPPING.read_bytes())
        (adapter,) = load(Path(folder) / "mapping.toml").adapters
    return adapter


def _requests(draw: random.Random) -> list[bytes]:
    return [
        orchestrator_pb2.RetrieveRequest(
            request_id=f"r{place}",
            surface="shop",
            user={"user_id": place + 1, "history": [draw.randrange(1_000_000) for _ in range(50)]},
            filter={"match": {"field": "language", "strings": ["de", "en"]}},
            max_results=_RESULTS,
        ).SerializeToString()
        for place in range(_REQUESTS)
    ]


def _answer() -> Candidates:
    values = np.linspace(1, 0, _RESULTS, dtype=np.float32)
    scores = np.stack([values, values], 1)
    return Candidates(("like", "watch"), "v1", np.arange(_RESULTS), values, values, scores)


def _took_us(adapter: Adapter[Query, Candidates], requests: list[bytes], answer: Candidates) -> float:
    start_s = time.perf_counter()
    for message in requests:
        adapter.measure(message, _LIMITS)
        adapter.encode(adapter.decode(message), answer)
    return (time.perf_counter() - start_s) / len(requests) * 1e6


def main() -> None:
    arguments(__doc__).parse_args()
    mapped, requests, answer = _mapped(), _requests(random.Random(0)), _answer()
    for message in requests:
        ours = retrieve.encode(retrieve.decode(message), answer)
        assert mapped.encode(mapped.decode(message), answer) == ours
    rounds = [
        (_took_us(retrieve, requests, answer), _took_us(mapped, requests, answer)) for _ in range(_ROUNDS)
    ]
    built_in, as_mapping = (min(each) for each in zip(*rounds, strict=True))
    row = {
        "name": "mapping",
        "requests": _REQUESTS,
        "built_in_us": round(built_in, 1),
        "mapping_us": round(as_mapping, 1),
        "more_us": round(as_mapping - built_in, 1),
    }
    bench(row)


if __name__ == "__main__":
    main()
