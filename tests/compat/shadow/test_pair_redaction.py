from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from meshfold.compat.key import KeyedHash
from meshfold.compat.shadow.pair_redaction import PairRedaction
from meshfold.compat.shadow.pairs import Pair, SideAnswer
from meshfold.model.errors import InvalidConfig
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb

KEYED = KeyedHash(b"k" * 32)
REQUEST = pb.RetrieveRequest(
    request_id="session-1",
    surface="shop",
    max_results=3,
    user={"user_id": 7, "history": [1, 2], "features": {"age": {"ints": {"values": [40]}}}},
    filter={"exists": {"field": "year"}},
    excluded_item_ids=[1],
)
PAIR = Pair(
    "r",
    "shop",
    "u",
    mesh=SideAnswer((3,)),
    filter="has(year)",
    request=REQUEST.SerializeToString(),
    slices={"mode": "mirror", "country": "de"},
)


def test_what_is_personal_is_left_out_and_the_pair_says_so() -> None:
    kept = PairRedaction(KEYED)(PAIR)
    request = pb.RetrieveRequest.FromString(kept.request)
    expected = pb.RetrieveRequest(surface="shop", max_results=3, filter=REQUEST.filter)
    expected.request_id, expected.user.user_id = KEYED.request_id("session-1"), KEYED.user_id(7)
    assert request == expected
    assert kept == replace(PAIR, request=kept.request, is_redacted=True)


def test_a_request_with_nothing_personal_can_still_be_asked() -> None:
    request = pb.RetrieveRequest(request_id="r", max_results=3).SerializeToString()
    assert not PairRedaction(KEYED)(replace(PAIR, request=request)).is_redacted
    assert PairRedaction(KEYED)(replace(PAIR, request=request, is_redacted=True)).is_redacted


def test_requests_are_kept_whole_where_that_is_asked_for() -> None:
    assert PairRedaction(keep_requests=True)(PAIR) == PAIR


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("filter", {"filter": None, "request": b"", "is_redacted": True}),
        ("request", {"request": b"", "is_redacted": True}),
        ("user_key", {"user_key": ""}),
        ("slices", {"slices": {}}),
        ("slices.country", {"slices": {"mode": "mirror"}}),
    ],
)
def test_what_the_operator_names_is_left_out(name: str, expected: dict[str, Any]) -> None:
    assert PairRedaction(keep_requests=True, omit=[name])(PAIR) == replace(PAIR, **expected)


def test_another_name_is_refused() -> None:
    with pytest.raises(
        InvalidConfig, match="one of filter, request, user_key, slices, slices.NAME, got 'history'"
    ):
        PairRedaction(omit=["history"])
