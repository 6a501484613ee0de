from __future__ import annotations

from typing import Any

import pytest

from meshfold.compat.filters import encode_filter
from meshfold.compat.key import KeyedHash
from meshfold.compat.shadow.request_facts import facts_of
from meshfold.model.errors import InvalidData
from meshfold.model.filter.text import parse_filter
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb

KEYED = KeyedHash(b"k" * 32)


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ({}, ("0", "unknown", "none")),
        ({"user_id": 5}, ("0", "known", "none")),
        ({"history": [1] * 4}, ("1-4", "known", "none")),
        ({"history_keys": ["a"] * 5}, ("5-19", "known", "none")),
        ({"history": [1] * 99}, ("20-99", "known", "none")),
        ({"history": [1] * 100}, ("100+", "known", "none")),
        ({"features": {"ages": {"ints": {"values": [3, 4]}}}}, ("0", "known", "3, 4")),
        ({"features": {"ages": {}}}, ("0", "known", "none")),
    ],
)
def test_slices_of_a_user(user: dict[str, Any], expected: tuple[str, str, str]) -> None:
    facts = facts_of(pb.RetrieveRequest(user=user).SerializeToString(), KEYED, ["ages"])
    assert (facts.slices["history"], facts.slices["user"], facts.slices["feature.ages"]) == expected
    assert facts.slices["filtered"] == "no"


@pytest.mark.parametrize(
    "text",
    [
        'language in ["de", "en"] && year >= 1990 && !(has(length))',
        "at_least(2, has(year), has(length), true)",
        'year == 7 || title != "a\\"b" || false',
    ],
)
def test_a_filter_has_a_text_that_says_the_same(text: str) -> None:
    request = pb.RetrieveRequest(max_results=-3)
    encode_filter(parse_filter(text), request.filter)
    facts = facts_of(request.SerializeToString(), KEYED)
    assert facts.filter is not None
    assert parse_filter(facts.filter) == parse_filter(text)
    assert (facts.slices["filtered"], facts.max_results) == ("yes", 0)


def test_filters_without_a_text_and_requests_without_a_filter() -> None:
    assert facts_of(b"", KEYED).filter == ""
    for filter_ in ({}, {"match": {"field": "a b", "ints": [1]}}):
        assert facts_of(pb.RetrieveRequest(filter=filter_).SerializeToString(), KEYED).filter is None


def test_ids_are_hashed_unless_they_are_hashes() -> None:
    for user, kept in (({"user_id": 7}, f"{7:016x}"), ({"user_key": "7"}, "7"), ({}, "")):
        message = pb.RetrieveRequest(request_id="r", user=user).SerializeToString()
        facts = facts_of(message, None)
        assert (facts.request_id, facts.user_key) == ("r", kept)
        hashed = facts_of(message, KEYED)
        assert hashed.request_id == KEYED.request_id("r")
        assert (hashed.user_key == "") == (kept == "")
        assert not kept or hashed.user_key != kept


def test_bytes_that_are_no_request() -> None:
    with pytest.raises(InvalidData, match=r"not a mesh\.v1\.RetrieveRequest"):
        facts_of(b"\xff", KEYED)
