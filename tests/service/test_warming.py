from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshfold.compat import meshfold_v1
from meshfold.model.errors import SnapshotRefused
from meshfold.model.limits import Limits
from meshfold.model.types import RequestSize
from meshfold.protos.meshfold.v1 import retrieval_pb2
from meshfold.service.request_sample import MOST_BYTES, MOST_REQUESTS, RequestSample
from meshfold.service.runner import Runner
from meshfold.service.server import Server
from meshfold.service.warming import made_queries, warm


@pytest.fixture
def runner(store: Path) -> Runner:
    (folder,) = (store / "shop").iterdir()
    return Runner.open(folder, "shop")


class Counting:
    """meshfold.v1, which counts what it encodes, and fails where that is told."""

    METHOD = meshfold_v1.METHOD

    def __init__(self, fails: bool = False) -> None:
        self.encoded = 0
        self._fails = fails

    def measure(self, message: bytes, limits: Limits) -> RequestSize:
        return meshfold_v1.measure(message, limits)

    def decode(self, message: bytes) -> Any:
        return meshfold_v1.decode(message)

    def path(self, query: Any, path: str) -> str:
        return meshfold_v1.path(query, path)

    def encode(self, query: Any, answer: Any) -> bytes:
        self.encoded += 1
        if self._fails:
            raise ZeroDivisionError
        return meshfold_v1.encode(query, answer)


def request(field: str = "year") -> bytes:
    made = retrieval_pb2.RetrieveRequest(surface="shop", max_results=3, history=[10, 11])
    made.filter.range.field, made.filter.range.min = field, 1950.0
    return bytes(made.SerializeToString())


def test_a_snapshot_answers_what_callers_sent_before_it_is_served(runner: Runner) -> None:
    adapter = Counting()
    warm(runner, [(adapter, request())] * 3, Limits())
    assert adapter.encoded == 3


def test_a_snapshot_that_fails_on_what_callers_sent_is_refused(runner: Runner) -> None:
    with pytest.raises(SnapshotRefused, match=r"fails on a request that callers sent \(ZeroDivisionError\)"):
        warm(runner, [(Counting(), request()), (Counting(fails=True), request())], Limits())


def test_requests_that_fit_another_schema_are_counted_and_no_reason_to_refuse_it(
    runner: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        warm(
            runner,
            [(meshfold_v1, request("price")), (meshfold_v1, request()), (meshfold_v1, b"\xff")],
            Limits(),
        )
    assert "refuses 2 of 3 requests that callers sent lately" in caplog.text


def test_queries_are_made_of_a_snapshots_own_items(runner: Runner) -> None:
    queries = made_queries(runner)
    answers = runner.run([runner.prepare(query) for query in queries])
    assert all(len(answer.item_ids) == 100 for answer in answers)
    assert len({answer.item_ids.tobytes() for answer in answers}) > 5  # type: ignore[union-attr]


def test_the_sample_holds_the_latest_and_nothing_large() -> None:
    sample = RequestSample()
    sample.saw("shop", meshfold_v1, b"x" * (MOST_BYTES + 1))
    assert sample.of("shop") == []
    for number in range(1000):
        sample.saw("shop", meshfold_v1, str(number).encode())
    kept = [int(message) for _, message in sample.of("shop")]
    assert len(kept) == MOST_REQUESTS
    assert min(kept) > 800
    assert sample.of("feed") == []


def test_a_server_keeps_what_callers_sent(store: Path, start: Callable[..., Server]) -> None:
    server = start(store)
    with grpc.insecure_channel(server.address) as channel:
        channel.unary_unary(meshfold_v1.METHOD)(request(), timeout=30)
    assert [message for _, message in server._sample.of("shop")] == [request()]
