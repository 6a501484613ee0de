from __future__ import annotations

import pytest

from meshfold.compat.recording import redaction
from meshfold.compat.recording.redaction import Redaction, UserIds
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.service import recording

MESSAGE = pb.RetrieveRequest(
    request_id="r",
    surface="shop",
    max_results=5,
    user={"user_id": 12345, "history": [1, 2], "features": {"age": {"ints": {"values": [40]}}}},
).SerializeToString()
# A field that a later version of the protocol may have.
UNKNOWN = b"\xf8\x07\x05"


def redacted(user_ids: str, *omit: str, message: bytes = MESSAGE) -> pb.RetrieveRequest:
    request = pb.RetrieveRequest()
    request.ParseFromString(Redaction(UserIds(user_ids), omit).redacted(message))
    return request


def test_what_is_kept_is_kept_byte_for_byte() -> None:
    for message in (MESSAGE + UNKNOWN, b"\xff no message"):
        assert Redaction(UserIds.KEEP, ()).redacted(message) == message


def test_ids_are_hashed_alike_until_the_server_ends() -> None:
    one, other = Redaction(UserIds.HASH, ()), Redaction(UserIds.HASH, ())
    ids = {pb.RetrieveRequest.FromString(r.redacted(MESSAGE)).user.user_id for r in (one, one, other)}
    assert len(ids) == 2
    assert 12345 not in ids
    assert all(0 < user_id < 1 << 63 for user_id in ids)


@pytest.mark.parametrize("user_id", [-5, 1, (1 << 63) - 1, -(1 << 63)])
def test_every_id_can_be_hashed(user_id: int) -> None:
    message = pb.RetrieveRequest(user={"user_id": user_id}).SerializeToString()
    assert redacted("hash", message=message).user.user_id not in (0, user_id)


def test_no_user_stays_none() -> None:
    assert redacted("hash", message=b"") == pb.RetrieveRequest()


def test_only_what_is_personal_is_left_out() -> None:
    whole = pb.RetrieveRequest.FromString(MESSAGE)
    for user_ids, omit in (("omit", ()), ("keep", ("history",)), ("omit", ("history", "features"))):
        expected = pb.RetrieveRequest.FromString(MESSAGE)
        for name in (*omit, *(("user_id",) if user_ids == "omit" else ())):
            expected.user.ClearField(name)
        assert redacted(user_ids, *omit) == expected != whole
    assert redacted("omit", message=MESSAGE + UNKNOWN).SerializeToString().endswith(UNKNOWN)


def test_what_cannot_be_redacted_is_left_out_whole() -> None:
    assert Redaction(UserIds.HASH, ()).redacted(b"\xff 12345") == b""


def test_the_settings_name_what_there_is() -> None:
    assert tuple(UserIds) == recording.USER_IDS
    assert redaction.PERSONAL == recording.PERSONAL
