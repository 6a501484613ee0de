from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshfold.compat import meshfold_v1
from meshfold.model.errors import InvalidQuery
from meshfold.model.types import Candidates, FieldValues, MaxPerValue, Query
from meshfold.protos.meshfold.v1 import retrieval_pb2 as pb


def test_golden_request() -> None:
    message = bytes.fromhex(
        "0a0172"  # request_id "r"
        "12066d6f76696573"  # surface "movies"
        "1807"  # user_id 7
        "220801000000000000 00"  # history [1]
        "2a080a036167651201 22"  # features [{name "age", ints [34]}]
        "380a"  # max_results 10
        "42080900000000000000"  # excluded_item_ids [9]
        "4a046c696b65"  # weighted_tasks ["like"]
        "52040000003f"  # weights [0.5]
        "6a080a04796561721002"  # max_per_value {field "year", limit 2}
        "72057469746c65"  # fields ["title"]
    )
    query = meshfold_v1.decode(message)
    assert (query.request_id, query.surface, query.user_id, query.max_results) == ("r", "movies", 7, 10)
    assert np.asarray(query.history).tolist() == [1]
    assert np.asarray(query.excluded_ids).tolist() == [9]
    assert query.task_weights == {"like": 0.5}
    assert query.max_per_value == MaxPerValue("year", 2)
    assert query.fields == ("title",)
    assert query.filter is None
    age = query.features["age"]
    assert isinstance(age, np.ndarray)
    assert age.tolist() == [34]


def test_golden_answer() -> None:
    candidates = Candidates(
        tasks=("like",),
        version="v1",
        item_ids=np.array([5, 6]),
        values=np.array([1, 0.5], np.float32),
        similarities=np.array([1, 0.5], np.float32),
        task_scores=np.array([[1], [0.5]], np.float32),
        fields={"year": FieldValues(np.array([1, 0]), np.array([1990]))},
        explain={"a": "b"},
    )
    floats = "0000803f0000003f"
    assert (
        meshfold_v1.encode(Query("movies", 2, request_id="r"), candidates).hex() == "0a0172"  # request_id
        "12046c696b65"  # tasks
        "1a1005000000000000000600000000000000"  # item_ids
        f"2208{floats}2a08{floats}3208{floats}"  # values, similarities, task_scores
        "3a027631"  # version
        "420e0a04796561721202010022"
        "02c60f"  # fields: year, lengths [1, 0], ints [1990]
        "4a060a0161120162"  # explain
    )


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (pb.RetrieveRequest(features=[{"name": "a", "ints": [1]}, {"name": "a"}]), 'features["a"]'),
        (pb.RetrieveRequest(features=[{"name": "a", "ints": [1], "strings": ["x"]}]), 'features["a"]'),
        (pb.RetrieveRequest(weighted_tasks=["like"], weights=[1, 2]), "weights"),
        (pb.RetrieveRequest(weighted_tasks=["like", "like"], weights=[1, 2]), "weighted_tasks"),
        (pb.RetrieveRequest(filter={}), "filter"),
    ],
)
def test_a_request_that_contradicts_itself_is_refused(request_: pb.RetrieveRequest, path: str) -> None:
    with pytest.raises(InvalidQuery) as caught:
        meshfold_v1.decode(request_.SerializeToString())
    assert caught.value.path == path


def test_a_column_without_values_is_an_absent_feature() -> None:
    request = pb.RetrieveRequest(features=[{"name": "age"}, {"name": "genres", "strings": ["a"]}])
    assert meshfold_v1.decode(request.SerializeToString()).features == {"genres": ("a",)}


@given(st.binary(max_size=64))
def test_bytes_of_any_kind_decode_or_are_the_callers_fault(message: bytes) -> None:
    with suppress(InvalidQuery):
        meshfold_v1.decode(message)
