"""Cost of a mapping over the built-in adapter of mesh.v1: to measure, decode and encode the same query."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any, TypeVar

from benchmarks.own_proto.protocol import MAPPING
from benchmarks.own_proto.world import World
from meshfold.compat.mapped.compile import load
from meshfold.compat.mesh_v1 import retrieve
from meshfold.model.limits import Limits
from meshfold.model.types import Candidates
from meshfold.service.runner import Runner
from meshfold.service.work import Adapter

_ROUNDS = 5

Query = TypeVar("Query")


def overhead_us(world: World, requests: Sequence[Any]) -> float:
    """Median over the requests, of a thread's processor time in microseconds."""
    (adapter,) = load(MAPPING).adapters
    assert adapter.traffic is not None
    runner = Runner.open(next((world.store / "home").iterdir()), "home", "cpu")
    differences = []
    for request in requests:
        message = request.SerializeToString()
        query = adapter.decode(message)
        (question,) = adapter.traffic.questions(message, {})
        candidates = runner.run([runner.prepare(query)])[0]
        mapped = _least_us(adapter, message, query, candidates)
        built_in = _least_us(retrieve, question.message, query, candidates)
        differences.append(mapped - built_in)
    return statistics.median(differences)


def _least_us(
    adapter: Adapter[Query, Candidates], message: bytes, query: Query, candidates: Candidates
) -> float:
    """The least of several rounds."""
    limits = Limits()
    took_ns = []
    for _ in range(_ROUNDS):
        start_ns = time.thread_time_ns()
        adapter.measure(message, limits)
        adapter.decode(message)
        adapter.encode(query, candidates)
        took_ns.append(time.thread_time_ns() - start_ns)
    return min(took_ns) / 1000
