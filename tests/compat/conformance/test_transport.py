"""What gRPC carries beside the messages: deadlines, cancellation, metadata, compression, sizes and unknown fields."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from meshfold.protos.mesh.v1.orchestrator_pb2 import RetrieveRequest, RetrieveResponse
from meshfold.protos.mesh.v1.retrieval_pb2 import SearchRequest
from meshfold.protos.mesh.v1.scoring_pb2 import ScoreRequest
from meshfold.protos.mesh.v1.types_pb2 import UserContext
from tests.compat.conformance.shop import IDS, SURFACE, N, exact_vectors
from tests.compat.conformance.targets import TIMEOUT_S, Target
from tests.compat.conformance.test_errors import EVERY, WELL_FORMED, refusal

CODES = grpc.StatusCode
METHODS = {
    "retrieve": "/mesh.v1.OrchestratorService/Retrieve",
    "embed": "/mesh.v1.UserTowerService/Embed",
    "search": "/mesh.v1.RetrievalService/Search",
    "score": "/mesh.v1.ScoringService/Score",
}


def raw(target: Target, call: str) -> Any:
    """The call with bytes for messages."""
    return target.channels[METHODS[call].split("/")[1].removeprefix("mesh.v1.")].unary_unary(METHODS[call])


def message_of(call: str) -> Any:
    kind, given = WELL_FORMED[call]
    return kind(**given)


def heavy(call: str) -> Any:
    """A request that takes a while."""
    message = message_of(call)
    match call:
        case "retrieve":
            message.max_results = 10_000
            message.user.history.extend(IDS.tolist())
        case "embed":
            del message.users[:]
            message.users.extend(UserContext(history=IDS[i:].tolist()) for i in range(64))
        case "search":
            message.k = 10_000
            message.queries.extend([message.queries[0]] * 31)
        case "score":
            message.item_ids.extend(IDS.tolist() * 20)
            message.user.history.extend(IDS.tolist())
    return message


@pytest.mark.parametrize("call", EVERY)
def test_a_deadline_that_passes_in_a_queue(target: Target, call: str) -> None:
    asked = heavy(call)
    before = [getattr(target, call).future(asked, timeout=TIMEOUT_S) for _ in range(8)]
    with pytest.raises(grpc.RpcError) as caught:
        getattr(target, call)(asked, timeout=0.002)
    # Or it is refused at once, by a server that knows that it would pass.
    assert caught.value.code() in (CODES.DEADLINE_EXCEEDED, CODES.RESOURCE_EXHAUSTED)
    assert all(answer.result() for answer in before)
    assert getattr(target, call)(message_of(call), timeout=TIMEOUT_S)


@pytest.mark.parametrize("call", EVERY)
def test_no_deadline_is_no_reason_not_to_answer(target: Target, call: str) -> None:
    assert getattr(target, call)(message_of(call))


@pytest.mark.parametrize("call", EVERY)
def test_a_caller_that_leaves_disturbs_nobody(target: Target, call: str) -> None:
    calls = [getattr(target, call).future(message_of(call), timeout=TIMEOUT_S) for _ in range(20)]
    for left in calls[::2]:
        left.cancel()
    for stayed in calls[1::2]:
        assert stayed.result()
    for left in calls[::2]:
        # One may have been answered before it was cancelled.
        assert left.code() in (CODES.CANCELLED, CODES.OK)


@pytest.mark.parametrize("call", EVERY)
def test_metadata_of_callers_is_no_obstacle(target: Target, call: str) -> None:
    metadata = (("x-request-id", "r-1"), ("x-trace-bin", b"\x00\xff"), ("authorization", "Bearer of nothing"))
    answer, made = getattr(target, call).with_call(
        message_of(call), timeout=TIMEOUT_S, metadata=metadata, compression=grpc.Compression.Gzip
    )
    assert made.code() is CODES.OK
    assert answer == getattr(target, call)(message_of(call), timeout=TIMEOUT_S)


def test_a_refusal_carries_its_details_and_nothing_else(target: Target) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        target.retrieve(RetrieveRequest(), timeout=TIMEOUT_S)
    assert caught.value.code() is CODES.INVALID_ARGUMENT
    assert "Traceback" not in caught.value.details()
    assert not [key for key, _ in caught.value.trailing_metadata() if key.startswith("grpc-status-details")]


@pytest.mark.parametrize("call", EVERY)
def test_fields_of_a_later_version_are_passed_over(target: Target, call: str) -> None:
    # Field 100, a string; 101, a number; 102, eight bytes; 103, four.
    later = bytes.fromhex("a206056c61746572" + "a8062a" + "b1060102030405060708" + "bd0601020304")
    message = message_of(call).SerializeToString()
    assert raw(target, call)(message + later, timeout=TIMEOUT_S) == raw(target, call)(
        message, timeout=TIMEOUT_S
    )


@pytest.mark.parametrize("call", EVERY)
@pytest.mark.parametrize("end", [b"\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe"])
def test_bytes_that_are_no_request(target: Target, call: str, end: bytes) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        raw(target, call)(message_of(call).SerializeToString() + end, timeout=TIMEOUT_S)
    assert caught.value.code() is CODES.INVALID_ARGUMENT
    name = message_of(call).DESCRIPTOR.full_name
    assert caught.value.details() == f"request: the bytes are not a {name}"


def test_a_filter_deeper_than_parsers_follow(target: Target) -> None:
    nested = b""
    for _ in range(5000):
        nested = b"\x3a" + varint(len(nested)) + nested
    for call, tag in (("retrieve", b"\x22"), ("search", b"\x1a")):
        with pytest.raises(grpc.RpcError) as caught:
            raw(target, call)(tag + varint(len(nested)) + nested, timeout=TIMEOUT_S)
        assert caught.value.code() is CODES.INVALID_ARGUMENT
        assert caught.value.details().startswith("request: ")


def varint(number: int) -> bytes:
    low = bytearray()
    while number > 127:
        low.append(number & 127 | 128)
        number >>= 7
    return bytes([*low, number])


@pytest.mark.parametrize("call", EVERY)
def test_a_message_above_the_limit_is_refused_and_the_next_is_answered(target: Target, call: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        raw(target, call)(bytes(5 << 20), timeout=TIMEOUT_S)
    assert caught.value.code() is CODES.RESOURCE_EXHAUSTED
    assert getattr(target, call)(message_of(call), timeout=TIMEOUT_S)


def test_a_method_that_is_not_there(target: Target) -> None:
    for service, channel in target.channels.items():
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/mesh.v1.{service}/Delete")(b"", timeout=TIMEOUT_S)
        assert caught.value.code() is CODES.UNIMPLEMENTED


def test_the_most_of_everything_is_answered(target: Target) -> None:
    some = RetrieveRequest(
        surface=SURFACE,
        max_results=10_000,
        request_id="r" * 1024,
        user={"history": range(20_000, 30_000)},
        excluded_item_ids=range(30_000, 40_000),
    )
    some.filter.match.field = "year"
    some.filter.match.ints.extend(range(9_999))
    for place in range(63):
        some.user.features[f"feature_{place}"].strings.values.extend(["x" * 1024] * 4)
    some.user.features["longest"].ints.values.extend(range(16_384))
    response: RetrieveResponse = target.retrieve(some, timeout=TIMEOUT_S)
    assert len(response.candidates) > N / 2

    vectors = [{"values": vector.tolist()} for vector in exact_vectors(3, 32)]
    found = target.search(SearchRequest(surface=SURFACE, k=10_000, queries=vectors), timeout=TIMEOUT_S)
    assert [len(n.item_ids) for n in found.neighbours] == [N] * 32

    ids = [*IDS.tolist(), *range(20_000, 29_680)]
    scored = target.score(ScoreRequest(surface=SURFACE, item_ids=ids), timeout=TIMEOUT_S)
    assert (len(scored.values), len(scored.unknown_item_ids)) == (N, 9_680)


def test_many_callers_at_once_get_what_one_gets(target: Target) -> None:
    alone = {call: getattr(target, call)(message_of(call), timeout=TIMEOUT_S) for call in EVERY}
    start = threading.Barrier(16)

    def caller(place: int) -> bool:
        start.wait(TIMEOUT_S)
        order = np.random.default_rng(place).permutation(len(EVERY) * 4) % len(EVERY)
        calls = [EVERY[i] for i in order.tolist()]
        return all(getattr(target, c)(message_of(c), timeout=TIMEOUT_S) == alone[c] for c in calls)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(caller, range(16)))


def test_a_surface_that_no_string_is(target: Target) -> None:
    code, details = refusal(target, "retrieve", RetrieveRequest(surface="\0/é\n", max_results=1))
    assert code is CODES.NOT_FOUND
    assert details.endswith("; known: shop")
