from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from meshfold.compat import meshfold_v1
from meshfold.compat.client import decode_response, encode_request
from meshfold.compat.mesh_v1 import retrieve
from meshfold.model.filter.expression import All, Match, Not, Range
from meshfold.model.limits import Limits
from meshfold.model.store import Store
from meshfold.model.types import MaxPerValue, Query, RequestSize
from meshfold.protos.mesh.v1 import orchestrator_pb2
from meshfold.protos.meshfold.v1 import retrieval_pb2
from meshfold.service.call import Call
from meshfold.service.event_loop import EventLoop
from meshfold.service.handlers import Handler
from meshfold.service.intake import PUSHBACK, Intake, IntakeLimits
from meshfold.service.lane import LaneLimits
from meshfold.service.ports import PortLimits, listening
from meshfold.service.runner import Runner
from meshfold.service.scheduler import Scheduler
from meshfold.service.server import Server
from meshfold.service.versions import Versions
from tests.service.doubler import Doubler
from tests.waiting import wait_until

NATIVE, MESH = meshfold_v1.METHOD, retrieve.METHOD
GOOD = Query("shop", 5, request_id="r", history=np.array([10, 20]), fields=("title",))
CODES = grpc.StatusCode


@pytest.fixture
def channel(served: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served.address) as channel:
        yield channel


def refusal(channel: grpc.Channel, method: str, message: bytes, timeout_s: float = 10) -> tuple[Any, str]:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(method)(message, timeout=timeout_s)
    return caught.value.code(), caught.value.details()


def test_both_protocols_give_the_same_answer(channel: grpc.Channel) -> None:
    native = decode_response(channel.unary_unary(NATIVE)(encode_request(GOOD)))
    mesh_request = orchestrator_pb2.RetrieveRequest(
        request_id="r", surface="shop", user={"history": [10, 20]}, max_results=5
    )
    mesh = orchestrator_pb2.RetrieveResponse.FromString(
        channel.unary_unary(MESH)(mesh_request.SerializeToString())
    )
    assert mesh.request_id == "r"
    assert list(mesh.tasks) == list(native.tasks) == ["like", "watch"]
    assert [c.item_id for c in mesh.candidates] == list(native.item_ids)
    assert [c.value for c in mesh.candidates] == native.values.tolist()
    assert [c.similarity for c in mesh.candidates] == native.similarities.tolist()
    assert [list(c.task_scores) for c in mesh.candidates] == native.task_scores.tolist()
    assert mesh.versions.index == native.version
    assert len(native.item_ids) == 5
    assert not {10, 20} & set(list(native.item_ids))


def test_everything_that_a_query_says_is_heeded(channel: grpc.Channel) -> None:
    query = Query(
        "",
        30,
        history=np.array([10]),
        filter=All((Not(Match("language", ("en",))), Range("year", 1950, 2200, inclusive=True))),
        excluded_ids=np.arange(200, 300),
        task_weights={"like": 0.5, "watch": 1.0},
        value_formula="weighted",
        max_per_value=MaxPerValue("language", 4),
        fields=("*",),
        explain=True,
    )
    answer = decode_response(channel.unary_unary(NATIVE)(encode_request(query)))
    assert list(answer.fields) == ["title", "language", "year"]
    languages = answer.fields["language"].values
    assert sorted(languages) == ["de"] * 4 + ["es"] * 4
    assert min(map(int, answer.fields["year"].values)) >= 1950
    assert not set(range(200, 300)) & set(list(answer.item_ids))
    assert (np.diff(answer.values) <= 0).all()
    np.testing.assert_allclose(
        answer.values, answer.task_scores @ np.array([0.5, 1], np.float32), rtol=1e-6, atol=1e-6
    )
    assert answer.explain


NAN = float("nan")
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no results": ({"max_results": 0}, "max_results: must be 1 to"),
    "too many results": ({"max_results": 10_001}, "max_results"),
    "unset filter": ({"filter": {}}, "filter: none of match"),
    "unset filter in a list": ({"filter": {"all": {"filters": [{}]}}}, "filter.all.filters[0]: none of"),
    "unknown field": ({"filter": {"exists": {"field": "yaer"}}}, "year"),
    "no field": ({"filter": {"match": {"field": "", "ints": [1]}}}, "filter"),
    "no value": ({"filter": {"match": {"field": "year"}}}, "filter.match: a match without values"),
    "strings of a number": ({"filter": {"match": {"field": "year", "strings": ["x"]}}}, "filter"),
    "range of a category": ({"filter": {"range": {"field": "language", "min": 1}}}, "filter"),
    "NaN bound": ({"filter": {"range": {"field": "year", "min": NAN}}}, "filter.range.min"),
    "text is not filtered": ({"filter": {"match": {"field": "title", "strings": ["x"]}}}, "filter"),
    "unknown field to show": ({"fields": ["tilte"]}, "title"),
    "unknown field of a cap": ({"max_per_value": {"field": "x", "limit": 1}}, "max_per_value.field"),
    "cap of none": ({"max_per_value": {"field": "year"}}, "max_per_value.limit"),
    "unknown task": ({"weighted_tasks": ["lik"], "weights": [1]}, "like"),
    "NaN weight": ({"weighted_tasks": ["like"], "weights": [NAN]}, 'weights["like"]: must be'),
    "lengths differ": ({"weighted_tasks": ["like"]}, "weights: 1 weighted_tasks but 0"),
    "NaN feature": ({"features": [{"name": "a", "floats": [NAN]}]}, 'features["a"].floats[0]'),
    "vector too short": ({"features": [{"name": "query_vector", "floats": [1.0]}]}, "query_vector"),
    "long history": ({"history": range(10_001)}, "history"),
    "long name": ({"surface": "x" * 100_000}, "surface"),
    "endless details": ({"fields": ["\U0001f600" * 250]}, "fields[0]"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_is_the_callers_fault_and_says_why(
    channel: grpc.Channel, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    changes, said = BAD[case]
    request = retrieval_pb2.RetrieveRequest(**{"surface": "shop", "max_results": 5, **changes})
    code, details = refusal(channel, NATIVE, request.SerializeToString())
    assert (code, said in details) == (CODES.INVALID_ARGUMENT, True), details
    assert not caplog.records
    assert decode_response(channel.unary_unary(NATIVE)(encode_request(GOOD))).version


@pytest.mark.parametrize("method", [NATIVE, MESH])
@pytest.mark.parametrize("end", [b"\xff", b"\x0a\x05ab", b"\x12\x02\xff\xfe"])
def test_bytes_that_are_no_request_are_the_callers_fault(
    channel: grpc.Channel, method: str, end: bytes
) -> None:
    kind = {NATIVE: retrieval_pb2.RetrieveRequest, MESH: orchestrator_pb2.RetrieveRequest}[method]
    code, details = refusal(channel, method, kind(max_results=5).SerializeToString() + end)
    assert (code, details.startswith("request: ")) == (CODES.INVALID_ARGUMENT, True)


@pytest.mark.parametrize(("method", "filter_tag"), [(NATIVE, b"\x32"), (MESH, b"\x22")])
def test_a_filter_that_no_parser_follows_is_the_callers_fault(
    channel: grpc.Channel, method: str, filter_tag: bytes
) -> None:
    nested = b""
    for _ in range(5000):
        nested = b"\x3a" + varint(len(nested)) + nested
    code, details = refusal(channel, method, filter_tag + varint(len(nested)) + nested)
    assert (code, details.startswith("request: ")) == (CODES.INVALID_ARGUMENT, True)


def varint(number: int) -> bytes:
    low = bytearray()
    while number > 127:
        low.append(number & 127 | 128)
        number >>= 7
    return bytes([*low, number])


def test_names_that_are_not_served(channel: grpc.Channel) -> None:
    code, details = refusal(channel, NATIVE, encode_request(Query("shp", 5)))
    assert (code, "did you mean 'shop'?" in details) == (CODES.NOT_FOUND, True)
    code, details = refusal(channel, NATIVE, encode_request(Query("shop", 5, value_formula="wieghted")))
    assert (code, "did you mean 'weighted'?" in details) == (CODES.NOT_FOUND, True)


def test_a_query_gives_the_same_bytes_from_any_number_of_threads(channel: grpc.Channel) -> None:
    call = channel.unary_unary(NATIVE)
    filters = [None, Match("language", ("en",)), Range("year", 2290), Not(Match("language", ("de",)))]
    messages = [
        encode_request(Query("shop", 1 + 13 * i, history=np.arange(10, 12 + i), filter=filters[i % 4]))
        for i in range(16)
    ]
    alone = [call(message) for message in messages]
    with ThreadPoolExecutor(32) as pool:
        for _ in range(4):
            assert list(pool.map(call, messages * 4)) == alone * 4


class Held:
    """A server whose one worker is held by a request of another surface until its gate opens; of four places in the
    queue, a surface has two."""

    def __init__(self, store: Path) -> None:
        self.loop = EventLoop("test-loop")
        self.scheduler = Scheduler(1, 4, LaneLimits(4, 1 << 20, 60.0))
        versions = Versions(Store(store), partial(Runner.open, device="cpu"), 60)
        versions.refresh()
        answer = Handler(meshfold_v1, versions, self.scheduler, Limits())
        self.server, self.address = self.loop.run(self._listen(answer))
        self.doubler = Doubler()
        self.doubler.gate.clear()
        self.holding = asyncio.run_coroutine_threadsafe(
            self.scheduler.run(self.doubler.work, RequestSize("other"), Call(b"1", time.monotonic() + 60)),
            self.loop.loop,
        )
        assert self.doubler.entered.wait(10)

    async def _listen(self, answer: Handler) -> tuple[Any, str]:
        handlers = Intake(IntakeLimits(10.0, 1 << 20, 1 << 20)).unary({NATIVE: answer})
        server, address = listening("127.0.0.1:0", "--address", handlers, PortLimits(1 << 20))
        await server.start()
        return server, address

    def stop(self) -> None:
        self.doubler.gate.set()
        assert self.holding.result(10) == b"2"
        self.loop.run(self.server.stop(0))
        self.scheduler.stop(10)
        self.loop.stop()


@pytest.fixture
def held(store: Path) -> Iterator[Held]:
    held = Held(store)
    yield held
    held.stop()


@pytest.fixture
def call(held: Held) -> Iterator[Any]:
    """The call of the held server."""
    with grpc.insecure_channel(held.address) as channel:
        yield channel.unary_unary(NATIVE)


def test_a_deadline_that_passes_in_the_queue(held: Held, call: Any) -> None:
    # What runs takes longer than expected: the next is not admitted to wait for it that long again.
    for timeout_s, code in ((2.0, CODES.DEADLINE_EXCEEDED), (0.5, CODES.RESOURCE_EXHAUSTED)):
        with pytest.raises(grpc.RpcError) as caught:
            call(encode_request(GOOD), timeout=timeout_s)
        assert caught.value.code() is code
    wait_until(lambda: held.scheduler.waiting() == 0)
    held.doubler.gate.set()
    assert call(encode_request(GOOD), timeout=10)


def test_a_deadline_that_cannot_be_met_is_refused_at_once_with_a_time_to_come_back(
    held: Held, call: Any
) -> None:
    for _ in range(20):
        held.scheduler.times.observe(("shop", NATIVE, False, False), 0.002, 30.0)
    with pytest.raises(grpc.RpcError) as caught:
        call(encode_request(GOOD), timeout=20)
    assert caught.value.code() is CODES.RESOURCE_EXHAUSTED
    assert "and the deadline is in" in caught.value.details()
    (pushback,) = [value for key, value in caught.value.trailing_metadata() if key == PUSHBACK]
    # Clients do not try again: 20 s would be too short again.
    assert pushback == "-1"
    assert held.scheduler.waiting() == 0


def test_a_full_queue_refuses_at_once_and_answers_again(held: Held, call: Any) -> None:
    message = encode_request(GOOD)
    calls = [call.future(message) for _ in range(2)]
    wait_until(lambda: held.scheduler.waiting() == 2)
    with pytest.raises(grpc.RpcError) as caught:
        call(message, timeout=10)
    assert caught.value.code() is CODES.RESOURCE_EXHAUSTED
    assert "2 requests wait already; try again in" in caught.value.details()
    (pushback,) = [value for key, value in caught.value.trailing_metadata() if key == PUSHBACK]
    assert int(pushback) >= 1
    held.doubler.gate.set()
    assert calls[0].result(10) == calls[1].result(10) == call(message)


def test_a_caller_that_leaves_takes_its_request_along(
    held: Held, call: Any, caplog: pytest.LogCaptureFixture
) -> None:
    message = encode_request(GOOD)
    calls = [call.future(message) for _ in range(2)]
    wait_until(lambda: held.scheduler.waiting() == 2)
    for one in calls:
        one.cancel()
    wait_until(lambda: held.scheduler.waiting() == 0)
    held.doubler.gate.set()
    assert call(message, timeout=10)
    assert not caplog.records


def test_what_asks_for_too_much_is_refused_before_it_waits(held: Held, call: Any) -> None:
    calls = [call.future(encode_request(GOOD)) for _ in range(2)]
    wait_until(lambda: held.scheduler.waiting() == 2)
    # The queue is full, and these are the caller's fault whether it is or not.
    for query, code in (
        (Query("shop", 5, history=np.arange(10_001)), CODES.INVALID_ARGUMENT),
        (Query("shp", 5), CODES.NOT_FOUND),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call(encode_request(query), timeout=10)
        assert caught.value.code() is code
    held.doubler.gate.set()
    assert all(one.result(10) for one in calls)
