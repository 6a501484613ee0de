"""A shop whose ids are strings: the same items, in the same order, as the one whose ids are integers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from meshfold.compat.client import Client
from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.expression import Exists
from meshfold.model.types import Query
from meshfold.protos.mesh.v1.orchestrator_pb2 import RetrieveRequest, RetrieveResponse
from meshfold.protos.mesh.v1.retrieval_pb2 import SearchRequest
from meshfold.protos.mesh.v1.scoring_pb2 import ScoreRequest
from meshfold.protos.mesh.v1.user_tower_pb2 import EmbedRequest
from tests.compat.conformance.agreement import APART, different
from tests.compat.conformance.requests import requests
from tests.compat.conformance.shop import (
    FILTERS,
    IDS,
    KEYS,
    POPULARITY,
    SURFACE,
    D,
    N,
    best_first,
    eligible,
    exact_vectors,
    similarities,
)
from tests.compat.conformance.targets import MESH, MODEL, TIMEOUT_S, Target

QUERY = exact_vectors(7, 2)
NEAR = similarities(list(QUERY)).max(0)
# Ids that the shop lacks, some of them close to one that it has.
UNKNOWN = ("no such id", KEYS[0] + " ", KEYS[3].upper() + "X", "e\u0301", "0" * 512)


def vector(values: Any) -> dict[str, Any]:
    return {"query_vector": {"floats": {"values": np.ravel(values).tolist()}}}


def retrieve(target: Target, **parts: Any) -> RetrieveResponse:
    given = {"surface": SURFACE, "max_results": N, "value_formula": "similarity", **parts}
    given["user"] = {"features": vector(QUERY), **given.get("user", {})}
    response: RetrieveResponse = target.retrieve(RetrieveRequest(**given), timeout=TIMEOUT_S)
    return response


def keys_of(response: RetrieveResponse) -> list[str]:
    assert {c.item_id for c in response.candidates} <= {0}
    return [c.item_key for c in response.candidates]


def keys_at(places: Iterable[int]) -> list[str]:
    return [KEYS[place] for place in places]


def test_the_keys_are_in_the_order_of_their_bytes() -> None:
    assert [key.encode() for key in KEYS] == sorted(key.encode() for key in KEYS)
    assert len(set(KEYS)) == N


def test_results_are_the_nearest_in_order_and_ties_go_to_the_smaller_key(keyed: Target) -> None:
    response = retrieve(keyed)
    order = best_first(NEAR, [True] * N, N)
    assert keys_of(response) == keys_at(order)
    assert [c.value for c in response.candidates] == NEAR[order].tolist()
    assert keys_of(retrieve(keyed, max_results=7)) == keys_at(order)[:7]


@pytest.mark.parametrize("case", ["one string", "between, both included", "not", "at least two"])
def test_filters_let_through_the_same_items(keyed: Target, case: str) -> None:
    filter_, passes = FILTERS[case]
    assert keys_of(retrieve(keyed, filter=filter_)) == keys_at(best_first(NEAR, eligible(passes), N))


@pytest.mark.parametrize("field", ["excluded", "history"])
def test_excluded_keys_and_the_history_do_not_come_and_unknown_ones_change_nothing(
    keyed: Target, field: str
) -> None:
    whole = keys_of(retrieve(keyed))
    for left_out in (whole[:5], [*whole[3:9], *UNKNOWN, whole[3], whole[3]], UNKNOWN, KEYS[:1], KEYS):
        given: dict[str, Any] = (
            {"excluded_item_keys": left_out}
            if field == "excluded"
            else {"user": {"user_key": "AE22", "history_keys": left_out}}
        )
        assert keys_of(retrieve(keyed, **given)) == [key for key in whole if key not in {*left_out}]


def test_of_whom_nothing_is_known_gets_what_is_popular(keyed: Target) -> None:
    for user in ({"user_key": "AE22"}, {"history_keys": UNKNOWN}, {"user_id": 7}):
        response: RetrieveResponse = keyed.retrieve(
            RetrieveRequest(surface=SURFACE, max_results=20, user=user), timeout=TIMEOUT_S
        )
        assert keys_of(response) == keys_at(best_first(POPULARITY, [True] * N, 20))


def test_search_finds_and_leaves_out_keys(keyed: Target) -> None:
    queries = [{"values": v.tolist()} for v in QUERY]
    left_out = [KEYS[3], KEYS[100], UNKNOWN[0], KEYS[3]]
    response = keyed.search(
        SearchRequest(surface=SURFACE, k=N, queries=queries, excluded_item_keys=left_out), timeout=TIMEOUT_S
    )
    stays = [key not in left_out for key in KEYS]
    for near, found in zip(similarities(list(QUERY)), response.neighbours, strict=True):
        order = best_first(near, stays, N)
        assert (list(found.item_keys), list(found.item_ids)) == (keys_at(order), [])
        assert list(found.similarities) == near[order].tolist()


def test_score_values_keys_in_the_order_of_the_request_and_tells_unknown_ones(keyed: Target) -> None:
    asked = [KEYS[7], UNKNOWN[1], KEYS[3], KEYS[200], UNKNOWN[4], KEYS[3], UNKNOWN[1]]
    request = ScoreRequest(
        surface=SURFACE, item_keys=asked, value_formula="similarity", user={"features": vector(QUERY)}
    )
    response = keyed.score(request, timeout=TIMEOUT_S)
    assert list(response.item_keys) == keys_at([7, 3, 200, 3])
    assert list(response.unknown_item_keys) == [UNKNOWN[1], UNKNOWN[4], UNKNOWN[1]]
    assert not response.item_ids
    assert not response.unknown_item_ids
    assert list(response.values) == NEAR[[7, 3, 200, 3]].tolist()


def test_embed_gives_users_with_strings_the_same_vectors_on_both_sides(
    keyed_targets: dict[str, Target],
) -> None:
    histories: list[Sequence[str]] = [KEYS[:1], KEYS[5:150], (KEYS[9], KEYS[9]), UNKNOWN, (*UNKNOWN, KEYS[2])]
    users = [{"user_key": f"user {i}", "history_keys": keys} for i, keys in enumerate(histories)]
    sides = [
        keyed_targets[name].embed(EmbedRequest(surface=SURFACE, users=users), timeout=TIMEOUT_S)
        for name in (MODEL, MESH)
    ]
    ours, theirs = (
        np.array([[e.values for e in user.embeddings] for user in side.users], np.float32) for side in sides
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    assert ours.shape == (5, 2, D)
    assert ours.any((1, 2)).tolist() == [True, True, True, False, True]


def keyed_request(request: RetrieveRequest) -> RetrieveRequest:
    """The same with strings for ids."""
    names = {int(item_id): key for item_id, key in zip(IDS, KEYS, strict=True)}
    made = RetrieveRequest()
    made.CopyFrom(request)
    made.excluded_item_keys.extend(names[i] for i in request.excluded_item_ids)
    made.user.history_keys.extend(names.get(i, f"unknown {i}") for i in request.user.history)
    made.user.user_key = f"user {request.user.user_id}"
    made.ClearField("excluded_item_ids")
    for field in ("history", "user_id"):
        made.user.ClearField(field)
    return made


def test_mesh_and_model_agree_on_strings(keyed_targets: dict[str, Target]) -> None:
    told = []
    for request in map(keyed_request, requests(60)):
        ours, theirs = (keyed_targets[name].retrieve(request, timeout=TIMEOUT_S) for name in (MODEL, MESH))
        assert len(keys_of(ours)) == len({*keys_of(ours)})
        if said := different(ours, theirs):
            told.append(f"{request.request_id}: {said}")
    assert not told


def test_strings_change_nothing_but_the_ids(
    targets: dict[str, Target], keyed_targets: dict[str, Target]
) -> None:
    """Of requests whose user tower does not run: it reads ids."""
    asked = [r for r in requests(60) if "query_vector" in r.user.features or not r.user.history]
    assert len(asked) > 20
    places = {int(item_id): key for item_id, key in zip(IDS, KEYS, strict=True)}
    for request in asked:
        integers = targets[MODEL].retrieve(request, timeout=TIMEOUT_S)
        strings = keyed_targets[MODEL].retrieve(keyed_request(request), timeout=TIMEOUT_S)
        assert keys_of(strings) == [places[c.item_id] for c in integers.candidates]
        for one, other in zip(integers.candidates, strings.candidates, strict=True):
            assert (one.value, one.similarity) == (other.value, other.similarity)
            np.testing.assert_allclose(one.task_scores, other.task_scores, rtol=0, atol=APART)


def test_the_client_asks_and_gets_strings(keyed_targets: dict[str, Target]) -> None:
    whole = keys_at(best_first(NEAR, eligible(lambda i: i.year is not None), N))
    with Client(keyed_targets[MODEL].address) as client:
        answer = client.retrieve(
            Query(
                SURFACE,
                10,
                user_id="AE22",
                history=[whole[0], *UNKNOWN],  # type: ignore[arg-type]
                excluded_ids=(whole[2],),
                features={"query_vector": QUERY.ravel()},
                filter=Exists("year"),
                value_formula="similarity",
                fields=("title", "year"),
            ),
            TIMEOUT_S,
        )
    assert answer.item_ids == tuple([key for key in whole if key not in (whole[0], whole[2])][:10])
    assert len(answer.fields["year"].values) == 10


@pytest.mark.parametrize(
    ("given", "path", "said"),
    [
        ({"history": [1, 2]}, "history", "holds integers; the item ids of this surface are strings"),
        ({"excluded_ids": np.array([5])}, "excluded_ids", "holds integers"),
        ({"history": [KEYS[0]], "excluded_ids": [5]}, "excluded_ids", "where history holds strings"),
        ({"history": ["a", ""]}, "history[1]", "is an empty string"),
        ({"excluded_ids": ["x" * 513]}, "excluded_ids[0]", "has 513 bytes; at most 512 are allowed"),
        ({"user_id": "x" * 513}, "user_id", "has 513 bytes"),
        ({"history": ["a", 1]}, "history[1]", "all of one kind"),
        ({"history": "AE22"}, "history", "must be a list"),
    ],
)
def test_the_client_raises_what_the_server_refuses(
    keyed_targets: dict[str, Target], given: dict[str, Any], path: str, said: str
) -> None:
    with (
        Client(keyed_targets[MODEL].address) as client,
        pytest.raises(InvalidQuery) as caught,
    ):
        client.retrieve(Query(SURFACE, 5, **given), TIMEOUT_S)
    assert caught.value.path == path
    assert said in caught.value.message


def test_the_clients_page_runs(keyed_targets: dict[str, Target], capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "compatibility.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert code.count("127.0.0.1:50051") == code.count("timeout_s=0.5") == 1
    # A machine with other work takes longer.
    code = code.replace("127.0.0.1:50051", keyed_targets[MODEL].address).replace(
        "timeout_s=0.5", "timeout_s=30"
    )
    code = code.replace('"wool"', '"t4"')
    exec(compile(code, "compatibility.md", "exec"), {"__name__": "page"})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert all(line.rpartition(" ")[0] in KEYS for line in lines)


# (message, call, parts, the details) for the shop of strings: one kind of id beside another.
REFUSED: dict[str, tuple[Any, str, dict[str, Any], str]] = {
    "integers in the history": (
        RetrieveRequest,
        "retrieve",
        {"user": {"history": [1]}},
        "user.history: holds integers; the item ids of this surface are strings",
    ),
    "integers in the history beside a vector": (
        RetrieveRequest,
        "retrieve",
        {"user": {"history": [1], "features": vector(QUERY)}},
        "user.history: holds integers",
    ),
    "excluded integers": (
        RetrieveRequest,
        "retrieve",
        {"excluded_item_ids": [5]},
        "excluded_item_ids: holds integers",
    ),
    "integers excluded from a search": (
        SearchRequest,
        "search",
        {"excluded_item_ids": [5]},
        "excluded_item_ids: holds integers",
    ),
    "integers to score": (ScoreRequest, "score", {"item_ids": [5]}, "item_ids: holds integers"),
    "integers of the second user": (
        EmbedRequest,
        "embed",
        {"users": [{"history_keys": ["a"]}, {"history": [5]}]},
        "users[1].history: holds integers where users[0].history_keys holds strings",
    ),
    "integers of a user": (
        EmbedRequest,
        "embed",
        {"users": [{"history": [5]}]},
        "users[0].history: holds integers",
    ),
    "both in one list": (
        RetrieveRequest,
        "retrieve",
        {"excluded_item_ids": [5], "excluded_item_keys": ["a"]},
        "excluded_item_keys: holds 1 strings and excluded_item_ids 1 integers",
    ),
    "both ids of a user": (
        RetrieveRequest,
        "retrieve",
        {"user": {"user_id": 5, "user_key": "a"}},
        "user.user_key: is set, and user_id too",
    ),
    "an empty string": (ScoreRequest, "score", {"item_keys": ["a", ""]}, "item_keys[1]: is an empty string"),
    "a long string": (
        RetrieveRequest,
        "retrieve",
        {"user": {"history_keys": ["x" * 513]}},
        "user.history_keys[0]: has 513 bytes; at most 512 are allowed",
    ),
    "too many strings": (
        RetrieveRequest,
        "retrieve",
        {"excluded_item_keys": ["a"] * 10_001},
        "excluded_item_keys: has 10001 entries; at most 10000 are allowed",
    ),
}


def refusal(target: Target, message: Any, call: str, parts: dict[str, Any]) -> str:
    common: dict[str, dict[str, Any]] = {
        "retrieve": {"max_results": 5},
        "search": {"k": 5, "queries": [{"values": [1.0] * D}]},
    }
    with pytest.raises(grpc.RpcError) as caught:
        getattr(target, call)(
            message(surface=SURFACE, **{**common.get(call, {}), **parts}), timeout=TIMEOUT_S
        )
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return str(caught.value.details())


@pytest.mark.parametrize("case", REFUSED)
def test_ids_of_another_kind_are_refused_in_the_same_words(keyed: Target, case: str) -> None:
    message, call, parts, said = REFUSED[case]
    assert refusal(keyed, message, call, parts).startswith(said)


@pytest.mark.parametrize(
    ("message", "call", "parts", "path"),
    [
        (RetrieveRequest, "retrieve", {"user": {"history_keys": ["1"]}}, "user.history_keys"),
        (RetrieveRequest, "retrieve", {"excluded_item_keys": ["1"]}, "excluded_item_keys"),
        (SearchRequest, "search", {"excluded_item_keys": ["1"]}, "excluded_item_keys"),
        (ScoreRequest, "score", {"item_keys": ["1"]}, "item_keys"),
        (EmbedRequest, "embed", {"users": [{"history_keys": ["1"]}]}, "users[0].history_keys"),
    ],
)
def test_strings_are_refused_where_ids_are_integers(
    target: Target, message: Any, call: str, parts: dict[str, Any], path: str
) -> None:
    told = refusal(target, message, call, parts)
    assert told == f"{path}: holds strings; the item ids of this surface are integers"
