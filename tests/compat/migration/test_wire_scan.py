from __future__ import annotations

import random

from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.compat.migration.wire_scan import MOST_FIELDS, Scanned, scan
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from tests.compat.requests import has_group, mutated, retrieve_request

REQUESTS = st.builds(
    lambda surface, request_id, user, history, keys, excluded, results, weights, feature: pb.RetrieveRequest(
        surface=surface,
        request_id=request_id,
        user={
            **user,
            "history": history,
            "history_keys": keys,
            "features": {"f": {"strings": {"values": [feature]}}},
        },
        excluded_item_ids=excluded,
        excluded_item_keys=keys,
        max_results=results,
        task_weights=weights,
    ),
    st.text(max_size=20),
    st.text(max_size=200),
    st.fixed_dictionaries(
        {}, optional={"user_id": st.integers(-(1 << 63), (1 << 63) - 1), "user_key": st.text(max_size=200)}
    ),
    st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=40),
    st.lists(st.text(max_size=20), max_size=5),
    st.lists(st.integers(0, 1 << 40), max_size=5),
    st.integers(-5, 1 << 30),
    st.dictionaries(st.text(max_size=5), st.floats(width=32), max_size=3),
    st.text(max_size=20),
)


def parsed(message: bytes) -> Scanned:
    """As protobuf reads it."""
    request = pb.RetrieveRequest.FromString(message)
    user = request.user
    user_id = user.user_id & (1 << 64) - 1
    return Scanned(request.surface, user_id, request.request_id.encode(), user.user_key.encode())


@settings(deadline=None)
@given(REQUESTS)
def test_it_reads_what_protobuf_reads(request: pb.RetrieveRequest) -> None:
    message = request.SerializeToString()
    assert scan(message) == parsed(message)


@settings(deadline=None)
@given(st.lists(REQUESTS, min_size=2, max_size=3))
def test_messages_that_come_in_parts_are_merged_and_the_last_counts(parts: list[pb.RetrieveRequest]) -> None:
    message = b"".join(part.SerializeToString() for part in parts)
    assert scan(message) == parsed(message)


@settings(deadline=None)
@given(REQUESTS, st.integers(0, 1 << 62), st.binary(max_size=9))
def test_fields_that_it_does_not_know_are_passed_over(
    request: pb.RetrieveRequest, number: int, content: bytes
) -> None:
    varint = bytes((number >> shift & 0x7F) | 0x80 for shift in range(0, 63, 7)) + b"\x00"
    unknown = (
        b"\xf8\x07"
        + varint
        + b"\xfa\x07"
        + bytes([len(content)])
        + content
        + b"\xfd\x07abcd"
        + b"\xf9\x07abcdefgh"
    )
    message = unknown + request.SerializeToString() + unknown
    assert scan(message) == parsed(message)


@settings(deadline=None)
@given(REQUESTS, st.integers(0, 400))
def test_what_is_cut_off_is_no_message_unless_protobuf_says_so(
    request: pb.RetrieveRequest, length: int
) -> None:
    message = request.SerializeToString()[:length]
    try:
        expected = parsed(message)
    except Exception:
        assert scan(message) is None or not message
    else:
        assert scan(message) == expected


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_break_it(message: bytes) -> None:
    scan(message)


def test_what_is_no_message_is_none() -> None:
    for message in (
        b"\x12",
        b"\x12\x05ab",
        b"\x12\x02\xff\xff",
        b"\x08" + b"\xff" * 11,
        b"\x02\x00",
        b"\x0b\x0c",
    ):
        assert scan(message) is None, message
    assert scan(b"") == Scanned("", 0, b"")


def test_of_bytes_that_were_changed_it_reads_what_protobuf_reads() -> None:
    draw = random.Random(9)
    read = 0
    for _ in range(10_000):
        message = mutated(draw, retrieve_request(draw).SerializeToString())
        try:
            expected = parsed(message)
        except DecodeError:
            continue
        scanned = scan(message)
        assert scanned == expected or (scanned is None and has_group(pb.RetrieveRequest.FromString(message)))
        read += scanned is not None
    assert read > 1000


def test_a_message_of_more_fields_than_any_model_takes_is_not_read() -> None:
    surface = pb.RetrieveRequest(surface="shop").SerializeToString()
    assert scan(surface + b"\x28\x01" * (MOST_FIELDS - 1)) == Scanned("shop", 0, b"")
    assert scan(surface + b"\x28\x01" * MOST_FIELDS) is None
