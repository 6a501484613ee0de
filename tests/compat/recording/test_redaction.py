from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.compat.key import KeyedHash
from meshfold.compat.recording import redaction
from meshfold.compat.recording.redaction import OF_ANSWER, OF_REQUEST, OF_USER, Redaction, UserIds
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.protos.mesh.v1 import types_pb2
from meshfold.service import recording

REQUEST = pb.RetrieveRequest(
    request_id="user-12345",
    surface="shop",
    max_results=5,
    user={"user_id": 12345, "history": [1, 2], "features": {"age": {"ints": {"values": [40]}}}},
    filter={"not": {"any": {"filters": [{"match": {"field": "genres", "strings": ["a"]}}]}}},
    excluded_item_ids=[1, 2],
    task_weights={"watch": 2.0},
    value_formula="watch",
    explain=True,
)
KEYED = pb.RetrieveRequest(
    request_id="user-AE22",
    surface="shop",
    user={"user_key": "AE22", "history_keys": ["vid_1", "AE22"]},
    excluded_item_keys=["vid_1"],
)
MESSAGE = REQUEST.SerializeToString()
ANSWER = pb.RetrieveResponse(
    request_id="user-12345",
    tasks=["watch"],
    candidates=[{"item_id": 3, "value": 0.5, "similarity": 0.25, "task_scores": [1.0]}, {"item_id": 4}],
    versions={"index": "v"},
    explain={"why": "user 12345 likes it"},
)
# A field that a later version of the protocol may have.
UNKNOWN = b"\xf8\x07\x05"
# Every way of redacting something.
WAYS = [
    (user_ids, omit)
    for user_ids, omit in itertools.product(
        UserIds, ((), ("history",), ("features",), ("history", "features"))
    )
    if user_ids is not UserIds.KEEP or omit
]


def redacted(user_ids: str, *omit: str, message: bytes = MESSAGE) -> pb.RetrieveRequest:
    request = pb.RetrieveRequest()
    request.ParseFromString(Redaction(UserIds(user_ids), omit).request(message))
    return request


def test_what_is_kept_is_kept_byte_for_byte() -> None:
    for message in (MESSAGE + UNKNOWN, b"\xff no message"):
        assert Redaction(UserIds.KEEP, ()).request(message) == message
        assert Redaction(UserIds.KEEP, ()).answer(message) == message


def test_ids_are_hashed_alike_until_the_server_ends() -> None:
    one, other = Redaction(UserIds.HASH, ()), Redaction(UserIds.HASH, ())
    requests = [pb.RetrieveRequest.FromString(r.request(MESSAGE)) for r in (one, one, other)]
    user_ids = {request.user.user_id for request in requests}
    assert len(user_ids) == 2
    assert 12345 not in user_ids
    assert all(0 < user_id < 1 << 63 for user_id in user_ids)
    request_ids = {request.request_id for request in requests}
    assert len(request_ids) == 2
    assert all(len(request_id) == 32 and "12345" not in request_id for request_id in request_ids)


@pytest.mark.parametrize("user_id", [-5, 1, (1 << 63) - 1, -(1 << 63)])
def test_every_id_can_be_hashed(user_id: int) -> None:
    message = pb.RetrieveRequest(user={"user_id": user_id}).SerializeToString()
    assert redacted("hash", message=message).user.user_id not in (0, user_id)


def test_no_user_and_no_request_id_stay_none() -> None:
    for user_ids in ("hash", "omit"):
        assert redacted(user_ids, message=b"") == pb.RetrieveRequest()
        empty = pb.RetrieveRequest(user={}).SerializeToString()
        assert redacted(user_ids, message=empty) == pb.RetrieveRequest(user={})


@pytest.mark.parametrize(("user_ids", "omit"), WAYS)
def test_ids_that_are_strings_are_redacted_as_integers_are(user_ids: UserIds, omit: tuple[str, ...]) -> None:
    message = KEYED.SerializeToString()
    found = redacted(user_ids, *omit, message=message)
    kept = [] if "history" in omit else ["vid_1", "AE22"]
    assert list(found.user.history_keys) == kept
    assert list(found.excluded_item_keys) == kept[:1]
    assert found.user.user_id == 0
    key = found.user.user_key
    match user_ids:
        case UserIds.KEEP:
            assert key == "AE22"
        case UserIds.OMIT:
            assert key == ""
        case UserIds.HASH:
            assert len(key) == 32
            assert key != found.request_id
            if not kept:
                assert b"AE22" not in found.SerializeToString()


def test_strings_are_hashed_alike_until_the_server_ends() -> None:
    one, other = Redaction(UserIds.HASH, ()), Redaction(UserIds.HASH, ())

    def hashed(redaction: Redaction, key: str) -> str:
        message = pb.RetrieveRequest(user={"user_key": key}).SerializeToString()
        return str(pb.RetrieveRequest.FromString(redaction.request(message)).user.user_key)

    keys = ["AE22", "ae22", "é", "x" * 512, "7", "\x00"]
    assert [hashed(one, key) for key in keys] == [hashed(one, key) for key in keys]
    assert len({hashed(redaction, key) for redaction in (one, other) for key in keys}) == 2 * len(keys)


@pytest.mark.parametrize(("user_ids", "omit"), WAYS)
def test_only_what_is_personal_is_left_out(user_ids: UserIds, omit: tuple[str, ...]) -> None:
    found = redacted(user_ids, *omit)
    expected = pb.RetrieveRequest.FromString(MESSAGE)
    for name in omit:
        expected.user.ClearField(name)
    if "history" in omit:
        expected.ClearField("excluded_item_ids")
    if user_ids is not UserIds.KEEP:
        expected.user.user_id, expected.request_id = found.user.user_id, found.request_id
        assert found.user.user_id != 12345
        assert "12345" not in found.request_id
    if user_ids is UserIds.OMIT:
        assert (found.user.user_id, found.request_id) == (0, "")
    assert found == expected


@pytest.mark.parametrize(("user_ids", "omit"), WAYS)
def test_an_answer_has_the_id_of_its_request_and_nothing_that_is_not_allowed(
    user_ids: UserIds, omit: tuple[str, ...]
) -> None:
    redaction = Redaction(user_ids, omit)
    answer = pb.RetrieveResponse.FromString(redaction.answer(ANSWER.SerializeToString()))
    request = pb.RetrieveRequest.FromString(redaction.request(MESSAGE))
    assert answer.request_id == request.request_id
    expected = pb.RetrieveResponse()
    expected.CopyFrom(ANSWER)
    expected.request_id = request.request_id
    expected.ClearField("explain")
    assert answer == expected


def test_what_cannot_be_redacted_is_left_out_whole() -> None:
    assert Redaction(UserIds.HASH, ()).request(b"\xff 12345") == b""
    assert Redaction(UserIds.HASH, ()).answer(b"\xff 12345") == b""


def test_every_field_of_the_protocol_is_decided_on() -> None:
    """Whoever adds one says whether it is recorded: as one that is kept, or here as one that is not."""
    assert {field.name for field in pb.RetrieveRequest.DESCRIPTOR.fields} == set(OF_REQUEST)
    assert {field.name for field in types_pb2.UserContext.DESCRIPTOR.fields} == set(OF_USER)
    assert {field.name for field in pb.RetrieveResponse.DESCRIPTOR.fields} == {*OF_ANSWER, "explain"}
    assert [field.name for field in pb.Candidate.DESCRIPTOR.fields] == [
        "item_id",
        "value",
        "similarity",
        "task_scores",
        "item_key",
    ]


PLANTED = b"planted secret"


def places(message: Message) -> Iterator[Message]:
    """The message and all that it holds, at every level."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if isinstance(value, Message):
            yield from places(value)
        elif field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for part in value.values():
                    yield from places(part)
        else:
            for part in value:
                yield from places(part)


def unknown(number: int, wire_type: int) -> bytes:
    """An unknown field that holds the planted bytes, or the first eight or four of them."""
    content = {
        1: PLANTED[:8],
        2: bytes((len(PLANTED),)) + PLANTED,
        5: PLANTED[:4],
    }[wire_type]
    tag = number << 3 | wire_type
    encoded = bytearray()
    while tag > 0x7F:
        encoded.append(tag & 0x7F | 0x80)
        tag >>= 7
    encoded.append(tag)
    return bytes(encoded) + content


FILTERS = st.recursive(
    st.sampled_from([{"exists": {"field": "year"}}, {"match": {"field": "genres", "strings": ["a"]}}]),
    lambda parts: st.one_of(
        st.builds(lambda part: {"not": part}, parts),
        st.builds(lambda all_of: {"all": {"filters": all_of}}, st.lists(parts, min_size=1, max_size=3)),
        st.builds(
            lambda some: {"at_least": {"count": 1, "filters": some}},
            st.lists(parts, min_size=1, max_size=3),
        ),
    ),
    max_leaves=6,
)
FEATURES = st.dictionaries(
    st.sampled_from(["age", "place"]),
    st.sampled_from([{"ints": {"values": [4]}}, {"strings": {"values": ["here"]}}]),
)
REQUESTS = st.builds(
    lambda filter, features: pb.RetrieveRequest(
        request_id="r", user={"user_id": 7, "features": features}, filter=filter, task_weights={"watch": 1.0}
    ),
    FILTERS,
    FEATURES,
)


@settings(deadline=None, max_examples=200)
@given(
    message=st.one_of(REQUESTS, st.just(ANSWER)),
    way=st.sampled_from(WAYS),
    plants=st.lists(
        st.tuples(st.integers(0, 1000), st.integers(100, (1 << 29) - 1), st.sampled_from([1, 2, 5])),
        min_size=1,
        max_size=5,
    ),
)
def test_no_unknown_field_is_recorded_from_any_level(
    message: Any, way: tuple[UserIds, tuple[str, ...]], plants: list[tuple[int, int, int]]
) -> None:
    planted = type(message)()
    planted.CopyFrom(message)
    for place, number, wire_type in plants:
        parts = list(places(planted))
        parts[place % len(parts)].MergeFromString(unknown(number, wire_type))
    content = planted.SerializeToString()
    assert PLANTED[:4] in content
    user_ids, omit = way
    redact = Redaction(user_ids, omit)
    found = redact.answer(content) if isinstance(message, pb.RetrieveResponse) else redact.request(content)
    assert found
    assert PLANTED[:4] not in found


@pytest.mark.parametrize(("user_ids", "omit"), WAYS)
def test_unknown_fields_of_an_entry_of_a_map_and_of_a_known_number_are_left_out(
    user_ids: UserIds, omit: tuple[str, ...]
) -> None:
    entry = b"\x0a\x05watch\x15\x00\x00\x00\x40" + unknown(9, 2)
    weights = b"\x3a" + bytes((len(entry),)) + entry
    # max_results is a varint and explain too.
    wrong = unknown(5, 2) + unknown(9, 1)
    message = pb.RetrieveRequest(surface="shop").SerializeToString() + weights + wrong
    found = Redaction(user_ids, omit).request(message)
    assert pb.RetrieveRequest.FromString(found).surface == "shop"
    assert PLANTED[:4] not in found


def test_fields_are_planted_at_every_level() -> None:
    kinds = {type(part).DESCRIPTOR.name for part in (*places(REQUEST), *places(ANSWER))}
    assert kinds == {
        "RetrieveRequest",
        "UserContext",
        "FeatureValue",
        "IntList",
        "Filter",
        "Any",
        "Match",
        "RetrieveResponse",
        "Candidate",
        "Versions",
    }


def test_the_settings_name_what_there_is() -> None:
    assert tuple(UserIds) == recording.USER_IDS
    assert redaction.PERSONAL == recording.PERSONAL


def test_ids_are_hashed_alike_under_one_key() -> None:
    one, again = (Redaction(UserIds.HASH, (), KeyedHash(b"k" * 32)) for _ in range(2))
    assert one.request(MESSAGE) == again.request(MESSAGE)
    assert one.request(KEYED.SerializeToString()) == again.request(KEYED.SerializeToString())
    assert one.request(MESSAGE) != Redaction(UserIds.HASH, ()).request(MESSAGE)


NO_HISTORY = pb.RetrieveRequest(request_id="r", user={"user_id": 5}, max_results=1)
NOBODY = pb.RetrieveRequest(request_id="r", user={"features": {"a": {"ints": {"values": [1]}}}})


@pytest.mark.parametrize(
    ("request_", "user_ids", "omit", "expected"),
    [
        (MESSAGE, "keep", (), False),
        (MESSAGE, "hash", (), False),
        (MESSAGE, "omit", (), False),
        (MESSAGE, "keep", ("history",), True),
        (MESSAGE, "keep", ("features",), True),
        (MESSAGE + UNKNOWN, "hash", (), True),
        (NO_HISTORY.SerializeToString(), "hash", (), True),
        (NO_HISTORY.SerializeToString(), "keep", ("history", "features"), False),
        (NOBODY.SerializeToString(), "hash", ("history",), False),
        (NOBODY.SerializeToString(), "hash", ("features",), True),
        (pb.RetrieveRequest(excluded_item_keys=["a"]).SerializeToString(), "keep", ("history",), True),
        (b"", "hash", ("history", "features"), False),
        (b"\xff", "hash", (), True),
    ],
)
def test_a_request_tells_whether_it_can_still_be_asked(
    request_: bytes, user_ids: str, omit: tuple[str, ...], expected: bool
) -> None:
    assert Redaction(UserIds(user_ids), omit).redacted(request_).is_redacted is expected


def test_every_field_that_the_protocol_calls_personal_is_hashed_or_left_out() -> None:
    names = {
        field.name for field in types_pb2.UserContext.DESCRIPTOR.fields if field.GetOptions().debug_redact
    }
    assert names == {"user_id", "user_key", *redaction.PERSONAL, "history_keys"}
    request = pb.RetrieveRequest(user={"history_keys": ["h"], **{"user_key": "u"}})
    request.user.CopyFrom(REQUEST.user)
    request.user.user_key, request.user.history_keys[:] = "u", ["h"]
    found = redacted("omit", *redaction.PERSONAL, message=request.SerializeToString())
    assert found.user == types_pb2.UserContext()
