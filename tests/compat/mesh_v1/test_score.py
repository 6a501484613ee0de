from __future__ import annotations

import numpy as np

from meshfold.compat.mesh_v1 import score
from meshfold.model.types import ScoreQuery, Scores, User
from meshfold.protos.mesh.v1 import scoring_pb2 as pb


def test_everything_that_is_asked_is_decoded() -> None:
    request = pb.ScoreRequest(
        surface="movies",
        user={"user_id": 7, "history": [2, 1]},
        item_ids=[5, 5, -(2**63)],
        task_weights={"like": 0.5},
        value_formula="weighted",
    )
    query = score.decode(request.SerializeToString())
    assert (query.surface, query.user.user_id, np.asarray(query.user.history).tolist()) == (
        "movies",
        7,
        [2, 1],
    )
    assert np.asarray(query.item_ids).tolist() == [5, 5, -(2**63)]
    assert (query.task_weights, query.value_formula) == ({"like": 0.5}, "weighted")


def test_scores_come_row_by_row() -> None:
    scores = Scores(
        tasks=("like", "watch"),
        version="v1",
        item_ids=np.array([5, 3]),
        values=np.array([0.5, 0.25], np.float32),
        task_scores=np.array([[1, 2], [3, 4]], np.float32),
        unknown_ids=np.array([9]),
    )
    message = score.encode(ScoreQuery("movies", User(), np.array([5, 9, 3])), scores)
    response = pb.ScoreResponse.FromString(message)
    assert (list(response.tasks), response.version) == (["like", "watch"], "v1")
    assert (list(response.item_ids), list(response.unknown_item_ids)) == ([5, 3], [9])
    assert (list(response.values), list(response.task_scores)) == ([0.5, 0.25], [1, 2, 3, 4])
