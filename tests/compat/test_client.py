from __future__ import annotations

from collections.abc import Callable
from typing import Any as Anything

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshfold.compat import meshfold_v1
from meshfold.compat.client import CallFailed, Client, decode_response, encode_request
from meshfold.compat.mesh_v1 import retrieve
from meshfold.compat.migration.client import MigrationClient
from meshfold.compat.query_client import QueryClient
from meshfold.compat.recording.client import RecordingClient
from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.expression import All, Any, AtLeast, Exists, Expression, Match, Not, Range
from meshfold.model.types import Candidates, FieldValues, MaxPerValue, Query
from meshfold.protos.mesh.v1 import orchestrator_pb2, types_pb2
from meshfold.protos.meshfold.v1 import retrieval_pb2

INT64 = st.integers(-(2**63), 2**63 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)
FLOAT32 = st.floats(width=32)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
INTEGER_IDS = st.lists(INT64, max_size=5).map(lambda values: np.array(values, np.int64))
STRING_IDS = st.lists(TEXT, min_size=1, max_size=5).map(tuple)
# A column without values is an absent feature in meshfold.v1.
FEATURES = (
    st.lists(INT64, min_size=1, max_size=4).map(lambda values: np.array(values, np.int64))
    | st.lists(FLOAT32, min_size=1, max_size=4).map(lambda values: np.array(values, np.float32))
    | st.lists(TEXT, min_size=1, max_size=4).map(tuple)
)
BOUNDS = st.none() | st.floats(allow_nan=False)


def tuples(values: st.SearchStrategy[Anything]) -> st.SearchStrategy[tuple[Anything, ...]]:
    return st.lists(values, max_size=3).map(tuple)


EXPRESSIONS: st.SearchStrategy[Expression] = st.recursive(
    st.builds(Match, TEXT, tuples(TEXT), tuples(INT64))
    | st.builds(Range, TEXT, BOUNDS, BOUNDS, st.booleans())
    | st.builds(Exists, TEXT),
    lambda inner: (
        st.builds(All, tuples(inner))
        | st.builds(Any, tuples(inner))
        | st.builds(AtLeast, INT32, tuples(inner))
        | st.builds(Not, inner)
    ),
    max_leaves=8,
)


def queries(**only_native: st.SearchStrategy[Anything]) -> st.SearchStrategy[Query]:
    return st.one_of(
        queries_of(INTEGER_IDS, **only_native),
        # Of no strings an empty array of integers comes back: the kind of nothing cannot be told.
        queries_of(STRING_IDS, **only_native),
    )


def queries_of(
    ids: st.SearchStrategy[Anything], **only_native: st.SearchStrategy[Anything]
) -> st.SearchStrategy[Query]:
    return st.builds(
        Query,
        surface=TEXT,
        max_results=INT32,
        request_id=TEXT,
        user_id=INT64 | TEXT.filter(bool),
        history=ids,
        features=st.dictionaries(TEXT, FEATURES, max_size=3),
        filter=st.none() | EXPRESSIONS,
        excluded_ids=ids,
        task_weights=st.dictionaries(TEXT, FLOAT32, max_size=3),
        value_formula=TEXT,
        explain=st.booleans(),
        **only_native,
    )


def parts(query: Query) -> dict[str, object]:
    """Everything in a query, in a form in which equal is equal, NaN included."""
    return {
        **vars(query),
        "history": plain(query.history),
        "excluded_ids": plain(query.excluded_ids),
        "features": {name: plain(values) for name, values in query.features.items()},
        "task_weights": {name: repr(weight) for name, weight in query.task_weights.items()},
    }


def plain(values: Anything) -> Anything:
    return values if isinstance(values, tuple) else (str(values.dtype), repr(values.tolist()))


@given(queries(max_per_value=st.none() | st.builds(MaxPerValue, TEXT, INT32), fields=tuples(TEXT)))
def test_a_request_decodes_to_the_query_that_it_was_made_from(query: Query) -> None:
    assert parts(meshfold_v1.decode(encode_request(query))) == parts(query)


@given(queries())
def test_both_protocols_decode_equal_requests_to_equal_queries(query: Query) -> None:
    assert parts(retrieve.decode(as_mesh_request(encode_request(query)))) == parts(query)


def as_mesh_request(message: bytes) -> bytes:
    """A meshfold.v1 request in the mesh's words. The two Filter messages have one wire form."""
    native = retrieval_pb2.RetrieveRequest.FromString(message)
    features = {}
    for column in native.features:
        kind = next(k for k in ("ints", "floats", "strings") if getattr(column, k))
        features[column.name] = types_pb2.FeatureValue(**{kind: {"values": getattr(column, kind)}})
    mesh = orchestrator_pb2.RetrieveRequest(
        request_id=native.request_id,
        surface=native.surface,
        user=types_pb2.UserContext(
            user_id=native.user_id,
            user_key=native.user_key,
            history=native.history,
            history_keys=native.history_keys,
            features=features,
        ),
        max_results=native.max_results,
        excluded_item_ids=native.excluded_item_ids,
        excluded_item_keys=native.excluded_item_keys,
        task_weights=dict(zip(native.weighted_tasks, native.weights, strict=True)),
        value_formula=native.value_formula,
        explain=native.explain,
    )
    if native.HasField("filter"):
        mesh.filter.ParseFromString(native.filter.SerializeToString())
    bytes_: bytes = mesh.SerializeToString()
    return bytes_


def test_an_answer_decodes_to_the_candidates_that_it_was_made_from() -> None:
    candidates = Candidates(
        tasks=("like", "watch"),
        version="0" * 64,
        item_ids=np.array([2**62, -1, 3]),
        values=np.array([0.5, 0.25, -1], np.float32),
        similarities=np.array([1, 2, 3], np.float32),
        task_scores=np.array([[1, 2], [3, 4], [5, 6]], np.float32),
        fields={
            "genres": FieldValues(np.array([2, 0, 1]), ("a", "b", "c")),
            "year": FieldValues(np.array([1, 1, 0]), np.array([1990, 2000])),
            "rating": FieldValues(np.array([0, 1, 0]), np.array([0.1])),
            "missing": FieldValues(np.array([0, 0, 0]), ()),
        },
        explain={"plan": "probe"},
    )
    again = decode_response(meshfold_v1.encode(Query("", 3), candidates))
    assert (again.tasks, again.version, again.explain) == (candidates.tasks, "0" * 64, {"plan": "probe"})
    for name in ("item_ids", "values", "similarities", "task_scores"):
        expected = getattr(candidates, name)
        np.testing.assert_array_equal(getattr(again, name), expected)
        assert getattr(again, name).dtype == expected.dtype
    assert list(again.fields) == list(candidates.fields)
    for name, field in candidates.fields.items():
        np.testing.assert_array_equal(again.fields[name].lengths, field.lengths)
        np.testing.assert_array_equal(again.fields[name].values, field.values)


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (retrieval_pb2.RetrieveResponse(item_ids=[1], values=[1.0]), "columns differ in length"),
        (retrieval_pb2.RetrieveResponse(item_keys=["a", "b"], values=[1.0]), "columns differ in length"),
        (
            retrieval_pb2.RetrieveResponse(fields=[retrieval_pb2.FieldColumn(field="year", lengths=[1])]),
            "field year",
        ),
        (
            retrieval_pb2.RetrieveResponse(
                item_ids=[1, 2],
                values=[1, 1],
                similarities=[1, 1],
                fields=[retrieval_pb2.FieldColumn(field="year", lengths=[2, -1], ints=[7])],
            ),
            "field year",
        ),
    ],
)
def test_an_answer_whose_columns_do_not_fit_is_refused(
    response: retrieval_pb2.RetrieveResponse, said: str
) -> None:
    with pytest.raises(CallFailed, match=said):
        decode_response(response.SerializeToString())
    with pytest.raises(CallFailed, match="not a meshfold"):
        decode_response(b"\xff")


@pytest.mark.parametrize(
    "query",
    [
        Query("movies", 2**31),
        Query("movies", 5, user_id=2**63),
        Query("movies", 5, filter=Match("year", ints=(2**64,))),
        Query("movies", 5, filter=AtLeast(2**31)),
        Query("\ud800", 5),
    ],
)
def test_a_query_that_no_message_can_hold_is_refused(query: Query) -> None:
    with pytest.raises(InvalidQuery):
        encode_request(query)


def test_a_cap_of_a_field_and_a_number_is_a_max_per_value() -> None:
    for cap in (("year", 1), ["year", 1], MaxPerValue("year", 1)):
        query = Query("movies", 5, max_per_value=cap)  # type: ignore[arg-type]
        assert meshfold_v1.decode(encode_request(query)).max_per_value == MaxPerValue("year", 1)
    with pytest.raises(InvalidQuery, match="max_per_value.limit: 2147483648 does not fit into 32 bits"):
        encode_request(Query("movies", 5, max_per_value=MaxPerValue("year", 2**31)))


CALLS: dict[Anything, Callable[[Anything], object]] = {
    Client: lambda client: client.retrieve(Query("movies", 5)),
    QueryClient: lambda client: client.ask(Query("movies", 5), 1.0),
    MigrationClient: lambda client: client.show(),
    RecordingClient: lambda client: client.show(),
}


@pytest.mark.parametrize("connect", CALLS)
def test_a_closed_client_says_so(connect: Anything) -> None:
    client = connect("127.0.0.1:1")
    client.close()
    with pytest.raises(CallFailed, match="the client of 127.0.0.1:1 is closed; open another"):
        CALLS[connect](client)
    client.close()


def test_no_server_at_the_address_says_how_to_start_one() -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(CallFailed, match="meshfold serve"):
        client.retrieve(Query("movies", 5))


LISTS: dict[str, tuple[dict[str, Anything], dict[str, Anything]]] = {
    "lists of integers": (
        {"history": [1, 2], "excluded_ids": [3]},
        {"history": np.array([1, 2]), "excluded_ids": np.array([3])},
    ),
    "lists of strings": (
        {"history": ["a", "é"], "excluded_ids": ["a"], "user_id": "AE22"},
        {"history": ("a", "é"), "excluded_ids": ("a",), "user_id": "AE22"},
    ),
    "tuples": ({"history": (1, 2)}, {"history": np.array([1, 2])}),
    "narrow arrays": (
        {"history": np.array([1, 2], np.uint8), "user_id": np.int32(7)},
        {"history": np.array([1, 2]), "user_id": 7},
    ),
    "arrays of strings": ({"history": np.array(["a", "bc"])}, {"history": ("a", "bc")}),
    "arrays of objects": ({"history": np.array(["a", "bc"], object)}, {"history": ("a", "bc")}),
    "columns of a table": (
        {"history": pa.array([5, 6]), "features": {"g": pa.array(["x"])}},
        {"history": np.array([5, 6]), "features": {"g": ("x",)}},
    ),
    "lists of numpy's integers": ({"history": [np.int64(5), np.int16(6)]}, {"history": np.array([5, 6])}),
    "empty lists": ({"history": [], "excluded_ids": ()}, {}),
    "lists as features": (
        {"features": {"i": [1, 2], "f": [1, 0.5], "s": ["a", "b"], "d": np.array([0.5])}},
        {
            "features": {
                "i": np.array([1, 2]),
                "f": np.array([1, 0.5], np.float32),
                "s": ("a", "b"),
                "d": np.array([0.5], np.float32),
            }
        },
    ),
}


@pytest.mark.parametrize("case", LISTS)
def test_lists_are_taken_where_arrays_are(case: str) -> None:
    given, meant = LISTS[case]
    assert parts(meshfold_v1.decode(encode_request(Query("shop", 5, **given)))) == parts(
        Query("shop", 5, **meant)
    )


WRONG: list[tuple[dict[str, Anything], str, str]] = [
    ({"history": "AE22"}, "history", "must be a list or an array, got 'AE22'; give ['AE22']"),
    ({"history": 7}, "history", "give [7]"),
    ({"history": None}, "history", "must be a list"),
    ({"history": [1, "a"]}, "history[1]", "all of one kind, got 'a'"),
    ({"history": ["a", 1]}, "history[1]", "all of one kind, got 1"),
    ({"history": [1, 2.0]}, "history[1]", "got 2.0"),
    ({"history": np.array([1.0])}, "history[0]", "must be an integer or a string"),
    ({"history": [True]}, "history[0]", "got True"),
    ({"history": [[1]]}, "history[0]", "got [1]"),
    ({"excluded_ids": [1, 2**63]}, "excluded_ids[1]", "does not fit into 64 bits"),
    ({"excluded_ids": [b"a"]}, "excluded_ids[0]", "got b'a'"),
    ({"user_id": 1.5}, "user_id", "must be an integer or a string, got 1.5"),
    ({"user_id": 2**63}, "user_id", "does not fit into 64 bits"),
    ({"features": {"hour": 8}}, 'features["hour"]', "give [8]"),
    ({"features": {"hour": [8, "x"]}}, 'features["hour"][1]', "all of one kind, got 'x'"),
    ({"features": {"hour": [0.5, "x"]}}, 'features["hour"][1]', "must be a number as the others are"),
    ({"features": {"hour": [0.5, 10**400]}}, 'features["hour"]', "too large"),
]


@pytest.mark.parametrize(("given", "path", "said"), WRONG)
def test_what_is_no_list_of_ids_or_of_a_feature_is_refused_with_the_path(
    given: dict[str, Anything], path: str, said: str
) -> None:
    with pytest.raises(InvalidQuery) as caught:
        encode_request(Query("shop", 5, **given))
    assert caught.value.path == path
    assert said in caught.value.message
