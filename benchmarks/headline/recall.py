"""How much of the exact answer each side gives: the mesh that compares every vector in float32 says what is exact."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc
import numpy as np

from benchmarks.headline.mesh_settings import MeshSettings
from benchmarks.headline.sides import Side, mesh
from meshfold.compat.mesh_v1 import retrieve
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.tools.bench_generator import read_messages

REQUESTS = 200
# A result counts whose value comes so close to that of the exact answer's last: the sides sum in different orders.
CLOSE = 1e-4
_TIMEOUT_S = 120.0

# Ids and values of the answer to each request, best first.
Answers = Sequence[tuple[Sequence[int], Sequence[float]]]


def exact_answers(store: Path, home: Path, messages: Path) -> Answers:
    """Made once and kept."""
    path = home / f"exact-{store.name}-{messages.stem}.json"
    if not path.exists():
        with mesh(store, home, MeshSettings(), ["--exact", f"--timeout={_TIMEOUT_S:g}"], "exact") as side:
            answers = answers_of(side, messages)
        path.with_suffix(".partial").write_text(json.dumps(answers), "utf-8")
        path.with_suffix(".partial").rename(path)
    told: Answers = json.loads(path.read_text("utf-8"))
    return told


def answers_of(side: Side, messages: Path) -> Answers:
    """Answers to the first requests, one at a time."""
    answers = []
    with grpc.insecure_channel(side.address, [("grpc.max_receive_message_length", -1)]) as channel:
        call = channel.unary_unary(retrieve.METHOD)
        for message in read_messages(messages)[:REQUESTS]:
            answer = pb.RetrieveResponse.FromString(call(message, timeout=_TIMEOUT_S))
            answers.append(
                ([c.item_id for c in answer.candidates], [round(c.value, 7) for c in answer.candidates])
            )
    return answers


def recalls(sides: Mapping[str, Side], messages: Path, exact: Answers) -> dict[str, float]:
    """The mean share of the exact answer in each side's, by name."""
    told = {}
    for name, side in sides.items():
        with side.running():
            told[name] = float(np.mean([*map(recall, answers_of(side, messages), exact)]))
    return told


def recall(
    answer: tuple[Sequence[int], Sequence[float]], exact: tuple[Sequence[int], Sequence[float]]
) -> float:
    """1 where nothing is eligible."""
    (ids, values), (exact_ids, exact_values) = answer, exact
    if not exact_ids:
        return 1.0
    right = np.isin(ids, exact_ids) | (np.asarray(values) >= exact_values[-1] - CLOSE)
    return min(1.0, float(right.sum()) / len(exact_ids))
