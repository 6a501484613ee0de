"""What a request that does not fit gets: the same status, and details that name the part and the remedy."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from meshfold.protos.mesh.v1 import types_pb2
from meshfold.protos.mesh.v1.orchestrator_pb2 import RetrieveRequest
from meshfold.protos.mesh.v1.retrieval_pb2 import SearchRequest
from meshfold.protos.mesh.v1.scoring_pb2 import ScoreRequest
from meshfold.protos.mesh.v1.user_tower_pb2 import EmbedRequest
from tests.compat.conformance.shop import SURFACE, D
from tests.compat.conformance.targets import TIMEOUT_S, Target

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
NAN, INFINITY = float("nan"), float("inf")
VECTOR = {"values": [1.0] * D}
EXISTS = {"exists": {"field": "year"}}
WELL_FORMED: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "retrieve": (RetrieveRequest, {"surface": SURFACE, "max_results": 5}),
    "embed": (EmbedRequest, {"surface": SURFACE, "users": [{"user_id": 1}]}),
    "search": (SearchRequest, {"surface": SURFACE, "k": 5, "queries": [VECTOR]}),
    "score": (ScoreRequest, {"surface": SURFACE, "item_ids": [1]}),
}
EVERY = tuple(WELL_FORMED)
USERS = ("retrieve", "score", "embed")
FORMULAS = ("retrieve", "score")
FILTERED = ("retrieve", "search")


def features(**named: types_pb2.FeatureValue) -> dict[str, Any]:
    return {"features": named}


def floats(*values: float) -> types_pb2.FeatureValue:
    return types_pb2.FeatureValue(floats=types_pb2.FloatList(values=values))


def strings(*values: str) -> types_pb2.FeatureValue:
    return types_pb2.FeatureValue(strings=types_pb2.StringList(values=values))


def nested(depth: int) -> dict[str, Any]:
    filter_: dict[str, Any] = EXISTS
    for _ in range(depth - 1):
        filter_ = {"not": filter_}
    return filter_


# (calls, what is changed, the status, what the details begin with, what they hold)
BAD: dict[str, tuple[tuple[str, ...], dict[str, Any], grpc.StatusCode, str, str]] = {
    "no results": (("retrieve",), {"max_results": 0}, INVALID, "max_results: ", "must be 1 to 10000, got 0"),
    "fewer than none": (("retrieve",), {"max_results": -3}, INVALID, "max_results: ", "got -3"),
    "too many results": (("retrieve",), {"max_results": 100_000}, INVALID, "max_results: ", "got 100000"),
    "no neighbours": (("search",), {"k": 0}, INVALID, "k: ", "must be 1 to "),
    "too many neighbours": (("search",), {"k": 100_000}, INVALID, "k: ", "got 100000"),
    "too many vectors": (
        ("search",),
        {"queries": [VECTOR] * 33},
        INVALID,
        "queries: ",
        "33 entries; at most 32",
    ),
    "a short vector": (
        ("search",),
        {"queries": [VECTOR, {}]},
        INVALID,
        "queries[1]: ",
        "has 0 values; expected 16",
    ),
    "NaN in a vector": (
        ("search",),
        {"queries": [VECTOR, {"values": [0.0, NAN]}]},
        INVALID,
        "queries[1].values[1]: ",
        "must be a finite number, got nan",
    ),
    "too many users": (("embed",), {"users": [{}] * 65}, INVALID, "users: ", "65 entries; at most 64"),
    "too many items": (("score",), {"item_ids": range(20_000)}, INVALID, "item_ids: ", "has 20000 entries"),
    "another surface": (EVERY, {"surface": "shp"}, NOT_FOUND, "no surface 'shp'", "did you mean 'shop'?"),
    "a long surface": (EVERY, {"surface": "x" * 2000}, INVALID, "surface: ", "has 2000 bytes; at most 1024"),
    "a long request id": (
        ("retrieve",),
        {"request_id": "x" * 2000},
        INVALID,
        "request_id: ",
        "has 2000 bytes",
    ),
    "another formula": (
        FORMULAS,
        {"value_formula": "cheep"},
        NOT_FOUND,
        "surface shop has no value formula 'cheep'",
        "did you mean 'cheap'?",
    ),
    "weights of a formula without": (
        FORMULAS,
        {"value_formula": "cheap", "task_weights": {"like": 1.0}},
        INVALID,
        "task_weights: formula 'cheap' takes no weights",
        "'mixed'",
    ),
    "a weight that the formula has not": (
        FORMULAS,
        {"task_weights": {"lik": 1.0}},
        INVALID,
        'task_weights["lik"]: ',
        "did you mean 'like'?",
    ),
    "a weight out of bounds": (
        FORMULAS,
        {"task_weights": {"like": 2.5}},
        INVALID,
        'task_weights["like"]: ',
        "must lie between 0 and 2, got 2.5",
    ),
    "NaN weight": (FORMULAS, {"task_weights": {"like": NAN}}, INVALID, 'task_weights["like"]: ', "finite"),
    "a feature of words that a formula reads": (
        FORMULAS,
        {"value_formula": "recent", "user": features(hour=strings("x"))},
        INVALID,
        'features["hour"]: ',
        "holds strings",
    ),
    "two numbers where a formula reads one": (
        FORMULAS,
        {"value_formula": "recent", "user": features(hour=floats(1, 2))},
        INVALID,
        'features["hour"]: ',
        "has 2 values",
    ),
    "a feature of no kind": (
        USERS,
        {"user": features(age=types_pb2.FeatureValue())},
        INVALID,
        'features["age"]: ',
        "none of ints, floats and strings is set; set one",
    ),
    "an input of another kind": (
        USERS,
        {"user": features(country=floats(1))},
        INVALID,
        'features["country"]: ',
        "is declared as strings; send strings",
    ),
    "infinity in a feature": (
        USERS,
        {"user": features(clock=floats(0, INFINITY))},
        INVALID,
        'features["clock"].floats.values[1]: ',
        "must be a finite number, got inf",
    ),
    "a short query vector": (
        USERS,
        {"user": features(query_vector=floats(1, 2))},
        INVALID,
        'features["query_vector"]: ',
        "has 2 values; expected 16, or 32 for one vector a task",
    ),
    "words for a query vector": (
        USERS,
        {"user": features(query_vector=strings("x"))},
        INVALID,
        'features["query_vector"]: ',
        "holds no floats",
    ),
    "a long history": (
        USERS,
        {"user": {"history": range(10_001)}},
        INVALID,
        "history: ",
        "has 10001 entries",
    ),
    "many excluded": (
        FILTERED,
        {"excluded_item_ids": range(30_000)},
        INVALID,
        "excluded_item_ids: ",
        "has 30000 entries",
    ),
    "a filter that is not set": (
        FILTERED,
        {"filter": {}},
        INVALID,
        "filter: ",
        "none of match, range, exists",
    ),
    "one in a list": (
        FILTERED,
        {"filter": {"all": {"filters": [EXISTS, {}]}}},
        INVALID,
        "filter.all.filters[1]: ",
        "none of match",
    ),
    "another field": (
        FILTERED,
        {"filter": {"not": {"exists": {"field": "yaer"}}}},
        INVALID,
        "filter.not.exists.field: ",
        "did you mean 'year'?",
    ),
    "no field": (FILTERED, {"filter": {"match": {"ints": [1]}}}, INVALID, "filter.match.field: ", "year"),
    "a match without values": (
        FILTERED,
        {"filter": {"match": {"field": "year"}}},
        INVALID,
        "filter.match: ",
        "a match without values",
    ),
    "strings of a number": (
        FILTERED,
        {"filter": {"match": {"field": "year", "strings": ["x"]}}},
        INVALID,
        "filter.match",
        "year",
    ),
    "ints of a category": (
        FILTERED,
        {"filter": {"match": {"field": "language", "ints": [1]}}},
        INVALID,
        "filter.match",
        "language",
    ),
    "a range over a category": (
        FILTERED,
        {"filter": {"range": {"field": "language", "min": 1}}},
        INVALID,
        "filter.range.field: ",
        "language",
    ),
    "a range over many": (
        FILTERED,
        {"filter": {"range": {"field": "groups", "min": 1}}},
        INVALID,
        "filter.range.field: ",
        "groups",
    ),
    "NaN bound": (
        FILTERED,
        {"filter": {"range": {"field": "year", "max": NAN}}},
        INVALID,
        "filter.range.max: ",
        "must be a number, got NaN",
    ),
    "text is shown": (
        FILTERED,
        {"filter": {"match": {"field": "title", "strings": ["x"]}}},
        INVALID,
        "filter.match.field: ",
        "title",
    ),
    "negative count": (
        FILTERED,
        {"filter": {"at_least": {"count": -1}}},
        INVALID,
        "filter.at_least.count: ",
        "must be at least 0, got -1",
    ),
    "a deep filter": (FILTERED, {"filter": nested(17)}, INVALID, "filter: ", "is more than 16 deep"),
    "many parts": (
        FILTERED,
        {"filter": {"all": {"filters": [EXISTS] * 600}}},
        INVALID,
        "filter: ",
        "has more than 512 parts",
    ),
    "many values": (
        FILTERED,
        {"filter": {"match": {"field": "year", "ints": range(10_001)}}},
        INVALID,
        "filter: ",
        "matches more than 10000 values",
    ),
}


def refusal(target: Target, call: str, message: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        getattr(target, call)(message, timeout=TIMEOUT_S)
    return caught.value.code(), caught.value.details()


def of_call(call: str, changes: dict[str, Any]) -> Any:
    """The request of a call; what is said of a user stands among the users to embed."""
    kind, given = WELL_FORMED[call]
    if call == "embed" and "user" in changes:
        changes = {"users": [{}, changes["user"]]}
    return kind(**{**given, **changes})


@pytest.mark.parametrize(
    ("case", "call"), [(case, call) for case, (calls, *_) in BAD.items() for call in calls]
)
def test_a_bad_request_is_refused_with_its_part_and_the_remedy(target: Target, case: str, call: str) -> None:
    _, changes, code, begins, holds = BAD[case]
    if "user" in changes:
        begins = f"users[1].{begins}" if call == "embed" else f"user.{begins}"
    got, details = refusal(target, call, of_call(call, changes))
    assert got is code, details
    assert details.startswith(begins)
    assert holds in details


@pytest.mark.parametrize("call", EVERY)
def test_what_was_well_formed_is_answered(target: Target, call: str) -> None:
    kind, given = WELL_FORMED[call]
    assert getattr(target, call)(kind(**given), timeout=TIMEOUT_S)


def test_an_empty_request_says_what_is_missing(target: Target) -> None:
    assert refusal(target, "retrieve", RetrieveRequest())[1].startswith("max_results: must be 1 to ")
    assert refusal(target, "search", SearchRequest())[1].startswith("k: must be 1 to ")
