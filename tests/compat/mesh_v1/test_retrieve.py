from __future__ import annotations

import numpy as np
import pytest

from meshfold.compat.mesh_v1 import retrieve
from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.expression import Match
from meshfold.model.types import Candidates, Query
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb

REQUEST = bytes.fromhex(
    "0a0172"  # request_id "r"
    "12066d6f76696573"  # surface "movies"
    "1a24"  # user
    "0807"  # user_id 7
    "120301ac02"  # history [1, 300]
    "1a0c0a0361676512050a030a0122"  # features["age"] = ints [34]
    "1a0d0a0177120812060a040000003f"  # features["w"] = floats [0.5]
    "22100a0e0a086c616e67756167651202656e"  # filter.match {field "language", strings ["en"]}
    "280a"  # max_results 10
    "320109"  # excluded_item_ids [9]
    "3a0b0a046c696b65150000003f"  # task_weights["like"] = 0.5
)


def candidates(k: int) -> Candidates:
    return Candidates(
        tasks=("like", "watch"),
        version="v1",
        item_ids=np.arange(k),
        values=np.linspace(1, 0, k, dtype=np.float32),
        similarities=np.ones(k, np.float32),
        task_scores=np.ones((k, 2), np.float32),
    )


def test_golden_request() -> None:
    query = retrieve.decode(REQUEST)
    assert (query.request_id, query.surface, query.user_id, query.max_results) == ("r", "movies", 7, 10)
    assert np.asarray(query.history).tolist() == [1, 300]
    assert np.asarray(query.history).dtype == np.int64
    assert np.asarray(query.excluded_ids).tolist() == [9]
    assert query.task_weights == {"like": 0.5}
    assert query.filter == Match("language", ("en",))
    age, w = query.features["age"], query.features["w"]
    assert isinstance(age, np.ndarray)
    assert isinstance(w, np.ndarray)
    assert (str(age.dtype), age.tolist(), str(w.dtype), w.tolist()) == ("int64", [34], "float32", [0.5])


def test_golden_answer() -> None:
    answer = retrieve.encode(Query("movies", 1, request_id="r"), candidates(1))
    assert (
        answer.hex() == "0a0172"  # request_id
        "12046c696b6512057761746368"  # tasks
        "1a14150000803f1d0000803f22080000803f0000803f"  # item_id 0, value 1, similarity 1, scores [1, 1]
        "22100a027631120276311a02763122027631"  # versions
    )


def test_an_answer_names_one_version_for_all_four_parts() -> None:
    response = pb.RetrieveResponse.FromString(retrieve.encode(Query("movies", 3), candidates(3)))
    versions = response.versions
    assert {versions.user_tower, versions.index, versions.filter, versions.scoring} == {"v1"}
    assert [c.item_id for c in response.candidates] == [0, 1, 2]
    assert [c.value for c in response.candidates] == [1.0, 0.5, 0.0]
    assert [list(c.task_scores) for c in response.candidates] == [[1.0, 1.0]] * 3


def test_an_empty_list_is_a_feature_and_an_unset_one_is_refused() -> None:
    request = pb.RetrieveRequest()
    request.user.features["genres"].strings.SetInParent()
    assert retrieve.decode(request.SerializeToString()).features == {"genres": ()}
    request.user.features["age"].SetInParent()
    with pytest.raises(InvalidQuery) as caught:
        retrieve.decode(request.SerializeToString())
    assert caught.value.path == 'user.features["age"]'
