"""Ids of users and items in requests and answers, integers or strings, in every call of both protocols."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from meshfold.compat import meshfold_v1
from meshfold.compat.mesh_v1 import embed, retrieve, score, search
from meshfold.model.errors import InvalidQuery
from meshfold.model.limits import Limits, check
from meshfold.model.types import Candidates, Neighbours, Query, ScoreQuery, Scores, SearchQuery
from meshfold.protos.mesh.v1 import orchestrator_pb2, retrieval_pb2, scoring_pb2, user_tower_pb2
from meshfold.protos.meshfold.v1 import retrieval_pb2 as native

CALLS: dict[str, tuple[Any, Callable[..., Any]]] = {
    "retrieve": (retrieve, orchestrator_pb2.RetrieveRequest),
    "embed": (embed, user_tower_pb2.EmbedRequest),
    "search": (search, retrieval_pb2.SearchRequest),
    "score": (score, scoring_pb2.ScoreRequest),
    "native": (meshfold_v1, native.RetrieveRequest),
}
# Composed and decomposed, beyond the basic plane, a NUL, a line's end: ids are their bytes, nothing is normalised.
STRINGS = ("AE22", "é", "e\u0301", "\U0001f3ac", "7", "a\x00", "a\n", " ", "AE22", "0" * 512)


def decoded(call: str, **parts: Any) -> Any:
    adapter, request = CALLS[call]
    return adapter.decode(request(**parts).SerializeToString())


# (call, parts of a request, the path, what the error says)
TWO_KINDS: list[tuple[str, dict[str, Any], str, str]] = [
    ("retrieve", {"user": {"user_id": 7, "user_key": "a"}}, "user.user_key", "is set, and user_id too"),
    ("native", {"user_id": -7, "user_key": "a"}, "user_key", "user_id too"),
    ("score", {"user": {"user_id": 7, "user_key": "a"}}, "user.user_key", "set one of both"),
    ("embed", {"users": [{}, {"user_id": 7, "user_key": "a"}]}, "users[1].user_key", "user_id too"),
    (
        "retrieve",
        {"user": {"history": [1], "history_keys": ["a"]}},
        "user.history_keys",
        "holds 1 strings and history 1 integers",
    ),
    (
        "native",
        {"history": [1, 2], "history_keys": ["a"]},
        "history_keys",
        "1 strings and history 2 integers",
    ),
    ("embed", {"users": [{"history": [1], "history_keys": ["a"]}]}, "users[0].history_keys", "of one kind"),
    ("score", {"user": {"history": [1], "history_keys": ["1"]}}, "user.history_keys", "of one kind"),
    (
        "retrieve",
        {"excluded_item_ids": [1], "excluded_item_keys": ["a", "b"]},
        "excluded_item_keys",
        "holds 2 strings and excluded_item_ids 1 integers",
    ),
    ("native", {"excluded_item_ids": [1], "excluded_item_keys": [""]}, "excluded_item_keys", "of one kind"),
    ("search", {"excluded_item_ids": [1], "excluded_item_keys": ["a"]}, "excluded_item_keys", "of one kind"),
    ("score", {"item_ids": [1], "item_keys": ["a"]}, "item_keys", "of one kind"),
    (
        "retrieve",
        {"user": {"history": [1]}, "excluded_item_keys": ["a"]},
        "excluded_item_keys",
        "holds strings where user.history holds integers",
    ),
    (
        "native",
        {"history_keys": ["a"], "excluded_item_ids": [1]},
        "excluded_item_ids",
        "holds integers where history_keys holds strings",
    ),
    (
        "score",
        {"user": {"history_keys": ["a"]}, "item_ids": [1]},
        "item_ids",
        "holds integers where user.history_keys holds strings",
    ),
    (
        "embed",
        {"users": [{"history": [1]}, {}, {"history_keys": ["a"]}]},
        "users[2].history_keys",
        "holds strings where users[0].history holds integers",
    ),
]


@pytest.mark.parametrize(("call", "parts", "path", "said"), TWO_KINDS)
def test_two_kinds_of_ids_in_a_request_are_refused_with_the_path(
    call: str, parts: dict[str, Any], path: str, said: str
) -> None:
    with pytest.raises(InvalidQuery) as caught:
        decoded(call, **parts)
    assert caught.value.path == path
    assert said in caught.value.message


def test_ids_of_users_and_of_items_are_of_kinds_of_their_own() -> None:
    integer_user, string_user = {"user_id": 7, "history_keys": ["a"]}, {"user_key": "7", "history": [1]}
    for query in (decoded("retrieve", user=integer_user), decoded("native", **integer_user)):
        assert (query.user_id, query.history) == (7, ("a",))
    for query in (decoded("retrieve", user=string_user), decoded("native", **string_user)):
        assert (query.user_id, query.history.tolist()) == ("7", [1])


def test_strings_come_as_they_were_sent() -> None:
    user = {"user_key": "é\x00", "history_keys": STRINGS}
    for query in (
        decoded("retrieve", user=user, excluded_item_keys=STRINGS),
        decoded("native", **user, excluded_item_keys=STRINGS),
    ):
        assert (query.user_id, query.history, query.excluded_ids) == ("é\x00", STRINGS, STRINGS)
        check(replace(query, max_results=1), Limits())
    assert decoded("embed", users=[{"history_keys": STRINGS}]).users[0].history == STRINGS
    assert decoded("search", excluded_item_keys=STRINGS).excluded_ids == STRINGS
    assert decoded("score", item_keys=STRINGS).item_ids == STRINGS


def test_no_ids_are_no_kind() -> None:
    for call in ("retrieve", "native"):
        query = decoded(call)
        assert (query.user_id, query.history.tolist(), query.excluded_ids.tolist()) == (0, [], [])


# (call, parts, the path, what the error says)
BAD_STRINGS: list[tuple[str, dict[str, Any], str, str]] = [
    ("retrieve", {"user": {"history_keys": ["a", ""]}}, "user.history_keys[1]", "is an empty string"),
    ("native", {"excluded_item_keys": ["", "a"]}, "excluded_item_keys[0]", "is an empty string"),
    ("search", {"excluded_item_keys": ["a", "b", ""]}, "excluded_item_keys[2]", "is an empty string"),
    ("score", {"item_keys": [""]}, "item_keys[0]", "is an empty string"),
    ("embed", {"users": [{}, {"history_keys": [""]}]}, "users[1].history_keys[0]", "is an empty string"),
    ("retrieve", {"user": {"user_key": "x" * 513}}, "user.user_key", "has 513 bytes; at most 512"),
    ("native", {"user_key": "é" * 257}, "user_key", "has 514 bytes; at most 512"),
    ("embed", {"users": [{"user_key": "x" * 600}]}, "users[0].user_key", "has 600 bytes"),
    ("native", {"history_keys": ["a", "x" * 513]}, "history_keys[1]", "has 513 bytes; at most 512"),
    ("score", {"item_keys": ["\U0001f3ac" * 129]}, "item_keys[0]", "has 516 bytes; at most 512"),
    ("search", {"excluded_item_keys": ["x" * 2000]}, "excluded_item_keys[0]", "has 2000 bytes"),
]


@pytest.mark.parametrize(("call", "parts", "path", "said"), BAD_STRINGS)
def test_strings_that_are_no_ids_are_refused_with_the_path(
    call: str, parts: dict[str, Any], path: str, said: str
) -> None:
    results = {"search": {"k": 1}, "retrieve": {"max_results": 1}, "native": {"max_results": 1}}
    query = decoded(call, **results.get(call, {}), **parts)
    with pytest.raises(InvalidQuery) as caught:
        check(query, Limits())
    assert CALLS[call][0].path(query, caught.value.path) == path
    assert said in caught.value.message


@pytest.mark.parametrize("call", CALLS)
def test_bytes_that_are_no_utf_8_are_no_request(call: str) -> None:
    adapter, request = CALLS[call]
    user = {"user_key": "ab", "history_keys": ["ab"]}
    parts: dict[str, dict[str, Any]] = {
        "retrieve": {"user": user},
        "embed": {"users": [user]},
        "search": {"excluded_item_keys": ["ab"]},
        "score": {"item_keys": ["ab"]},
        "native": user,
    }
    message = request(**parts[call]).SerializeToString()
    with pytest.raises(InvalidQuery, match="the bytes are not a"):
        adapter.decode(message.replace(b"ab", b"\xff\xfe"))


def test_a_limit_of_strings_is_one_of_ids_too() -> None:
    with pytest.raises(InvalidQuery, match="at most 8 are allowed"):
        check(Query("shop", 1, history=("x" * 9,)), Limits(max_string_bytes=8))


FLOATS = np.linspace(1, 0, len(STRINGS), dtype=np.float32)


def test_answers_have_strings_in_the_fields_of_strings_alone() -> None:
    scores = np.stack([FLOATS, FLOATS], 1)
    candidates = Candidates(("like", "watch"), "v", STRINGS, FLOATS, FLOATS, scores)
    query = Query("shop", 10)
    ours = orchestrator_pb2.RetrieveResponse.FromString(retrieve.encode(query, candidates))
    assert tuple(c.item_key for c in ours.candidates) == STRINGS
    assert {c.item_id for c in ours.candidates} == {0}
    columns = native.RetrieveResponse.FromString(meshfold_v1.encode(query, candidates))
    assert (tuple(columns.item_keys), list(columns.item_ids)) == (STRINGS, [])
    found = retrieval_pb2.SearchResponse.FromString(
        search.encode(SearchQuery("shop", 1, ()), Neighbours("v", (STRINGS, ()), (FLOATS, FLOATS[:0])))
    )
    assert [(tuple(n.item_keys), list(n.item_ids)) for n in found.neighbours] == [(STRINGS, []), ((), [])]
    scored = scoring_pb2.ScoreResponse.FromString(
        score.encode(
            ScoreQuery("shop", query.user, STRINGS),
            Scores(("like", "watch"), "v", STRINGS, FLOATS, scores, ("x", "x")),
        )
    )
    assert (tuple(scored.item_keys), list(scored.unknown_item_keys)) == (STRINGS, ["x", "x"])
    assert not scored.item_ids
    assert not scored.unknown_item_ids
