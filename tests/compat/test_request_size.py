"""Sizes from the wire beside those of decoded requests, and refusals beside those of model/limits.py."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from meshfold.compat import meshfold_v1
from meshfold.compat.mesh_v1 import embed, retrieve, score, search
from meshfold.compat.mesh_v1.messages import PATHS
from meshfold.compat.request_size import SizeScanner
from meshfold.compat.varint import varint
from meshfold.compat.wire import Counter
from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.expression import Expression, Match
from meshfold.model.limits import Limits, check
from meshfold.model.types import AnyQuery, EmbedQuery, Query, RequestSize, ScoreQuery, SearchQuery, User
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from tests.compat.requests import (
    embed_request,
    native_request,
    retrieve_request,
    score_request,
    search_request,
)

CALLS: dict[str, tuple[Any, Callable[[random.Random], Any]]] = {
    "retrieve": (retrieve, retrieve_request),
    "embed": (embed, embed_request),
    "search": (search, search_request),
    "score": (score, score_request),
    "native": (meshfold_v1, native_request),
}
LIMITS = Limits()


def parts(filter_: Expression | None) -> list[Expression]:
    if filter_ is None:
        return []
    inner = getattr(filter_, "filters", None) or ([filter_.filter] if hasattr(filter_, "filter") else [])
    return [filter_, *(part for one in inner for part in parts(one))]


def of_users(users: tuple[User, ...]) -> dict[str, Any]:
    return {
        "history": sum(len(user.history) for user in users),
        "features": sum(len(user.features) for user in users),
        "feature_values": sum(len(values) for user in users for values in user.features.values()),
    }


def size_of(query: AnyQuery, message: bytes) -> RequestSize:
    """As it is counted in what was decoded."""
    size = RequestSize(query.surface, bytes=len(message))
    match query:
        case Query():
            size = replace(size, max_results=query.max_results, **of_users((query.user,)))
        case EmbedQuery():
            size = replace(size, users=len(query.users), **of_users(query.users))
        case SearchQuery():
            size = replace(size, max_results=query.k, query_vectors=len(query.queries))
        case ScoreQuery():
            size = replace(size, item_ids=len(query.item_ids), **of_users((query.user,)))
    if isinstance(query, Query | SearchQuery):
        nodes = parts(query.filter)
        values = sum(len(node.strings) + len(node.ints) for node in nodes if isinstance(node, Match))
        size = replace(size, excluded=len(query.excluded_ids), filter_nodes=len(nodes), filter_values=values)
    return size


def refusal(
    function: Callable[..., object], request: object, limits: Limits, path: Callable[[str], str] = str
) -> str | None:
    """The error, without names of features, of which two may be as large. path: from the error's to the request's."""
    try:
        function(request, limits)
    except InvalidQuery as error:
        return re.sub(r'\[".*"\]', '["_"]', f"{path(error.path)}: {error.message}")
    return None


@pytest.mark.parametrize("call", CALLS)
def test_the_size_is_that_of_the_decoded_request(call: str) -> None:
    adapter, make = CALLS[call]
    draw = random.Random(6)
    for _ in range(200):
        message = make(draw).SerializeToString()
        assert adapter.measure(message, LIMITS) == size_of(adapter.decode(message), message)


_OF_USERS = {"max_history", "max_features", "max_feature_values"}
_OF_FILTERS = {"max_filter_depth", "max_filter_nodes", "max_filter_values", "max_excluded", "max_results"}
LIMITED = {
    "retrieve": {*_OF_USERS, *_OF_FILTERS, "max_weights"},
    "embed": {*_OF_USERS, "max_users"},
    "search": {*_OF_FILTERS, "max_query_vectors"},
    "score": {*_OF_USERS, "max_item_ids", "max_weights"},
    "native": {*_OF_USERS, *_OF_FILTERS, "max_weights", "max_fields"},
}


@pytest.mark.parametrize(
    ("call", "limit"), [(call, limit) for call in LIMITED for limit in sorted(LIMITED[call])]
)
def test_what_is_refused_is_what_the_limits_refuse_in_their_words(call: str, limit: str) -> None:
    adapter, make = CALLS[call]
    draw = random.Random(7)
    refused = 0
    for _ in range(60):
        message = make(draw).SerializeToString()
        query = adapter.decode(message)
        limits = [replace(LIMITS, **{limit: most}) for most in range(1, 80)]
        # The least limit by which it passes, and the one below it.
        first = next(place for place, most in enumerate(limits) if refusal(check, query, most) is None)
        assert refusal(adapter.measure, message, limits[first]) is None
        if first > 0:
            told = refusal(adapter.measure, message, limits[first - 1])
            assert told == refusal(check, query, limits[first - 1], partial(adapter.path, query))
            refused += 1
    assert refused > 5


@pytest.mark.parametrize("call", CALLS)
def test_strings_of_the_request_itself_are_limited_and_no_others(call: str) -> None:
    adapter, make = CALLS[call]
    draw = random.Random(8)
    for _ in range(30):
        request = make(draw)
        names = [
            n for n in ("surface", "request_id", "value_formula") if n in request.DESCRIPTOR.fields_by_name
        ]
        sizes = [len(getattr(request, name).encode()) for name in names]
        message = request.SerializeToString()
        assert refusal(adapter.measure, message, Limits(max_string_bytes=max(sizes))) is None
        if max(sizes) > 1:
            most = max(sizes) - 1
            told = refusal(adapter.measure, message, Limits(max_string_bytes=most))
            name = names[sizes.index(max(sizes))]
            assert told == f"{name}: has {max(sizes)} bytes; at most {most} are allowed"


def held(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def nested(depth: int) -> bytes:
    message = b""
    for _ in range(depth):
        message = held(7, message)
    return message


RESULTS = b"\x28\x0a"
MANY_FIELDS = "request: has more than 131072 fields; send fewer"
ENTRY = held(3, held(1, b"a") + held(2, held(1, held(1, b"\x01"))))
# Of RetrieveRequest, but for what is named after another call.
EXPENSIVE: dict[str, tuple[str, bytes, str]] = {
    "a large map": (
        "retrieve",
        RESULTS + held(3, ENTRY * 20_000),
        "user.features: has 20000 entries; at most 64",
    ),
    "a huge map": ("retrieve", RESULTS + held(3, ENTRY * 200_000), MANY_FIELDS),
    "many exist": (
        "retrieve",
        RESULTS + held(4, held(4, held(1, held(3, b"")) * 30_000)),
        "filter: has more than 512 parts",
    ),
    "deep": ("retrieve", RESULTS + held(4, nested(40)), "filter: is more than 16 deep"),
    "deeper than parsers go": (
        "retrieve",
        RESULTS + held(4, nested(10_000)),
        "request: has messages more than 100 deep in one another; flatten it",
    ),
    "packed": (
        "retrieve",
        RESULTS + held(3, held(2, b"\x01" * (1 << 22))),
        "user.history: has 4194304 entries",
    ),
    "one by one": ("retrieve", RESULTS + held(3, b"\x10\x01" * (1 << 20)), MANY_FIELDS),
    "unknown": ("retrieve", RESULTS + b"\x78\x01" * (1 << 20), MANY_FIELDS),
    "a long name": ("retrieve", RESULTS + held(1, b"a" * (1 << 22)), "request_id: has 4194304 bytes"),
    "no UTF-8": (
        "retrieve",
        RESULTS + held(2, b"\xff"),
        "request: the bytes are not a mesh.v1.RetrieveRequest",
    ),
    "cut off": ("retrieve", held(2, b"shop")[:-1], "request: the bytes are not a mesh.v1.RetrieveRequest"),
    "empty vectors": ("search", RESULTS + held(2, b"") * 50_000, "queries: has 50000 entries; at most 32"),
    "empty users": ("embed", held(2, b"") * 50_000, "users: has 50000 entries; at most 64"),
    "a feature of a user": (
        "embed",
        held(2, b"") + held(2, held(3, held(1, b"age") + held(2, held(2, held(1, bytes(1 << 22)))))),
        'users[1].features["age"]: has 1048576 entries; at most 16384',
    ),
    "empty columns": ("native", b"\x38\x0a" + held(5, b"") * 100_000, "features: has 100000 entries"),
    "a column": (
        "native",
        b"\x38\x0a" + held(5, held(1, b"age") + held(2, b"\x01" * 20_000)),
        'features["age"]: has 20000 entries',
    ),
}


@pytest.mark.parametrize("case", EXPENSIVE)
def test_what_would_be_expensive_is_refused_on_the_wire(case: str) -> None:
    call, message, begins = EXPENSIVE[case]
    with pytest.raises(InvalidQuery) as caught:
        CALLS[call][0].measure(message, LIMITS)
    assert str(caught.value).startswith(begins)


def test_results_are_read_as_a_parser_reads_them() -> None:
    for results in (0, -3, 1 << 30):
        message = pb.RetrieveRequest(max_results=results).SerializeToString()
        with pytest.raises(InvalidQuery, match=f"max_results: must be 1 to 10000, got {results}"):
            retrieve.measure(message, LIMITS)
    assert retrieve.measure(b"\x28" + varint((1 << 40) + 5), LIMITS).max_results == 5


def test_a_counter_of_an_unknown_field_is_refused_where_it_is_declared() -> None:
    with pytest.raises(ValueError, match="holds no field UserContext.histroy"):
        SizeScanner(pb.RetrieveRequest.DESCRIPTOR, {"history": Counter(("UserContext.histroy",))}, PATHS)
