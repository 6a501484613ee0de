"""ScoringService/Score: values of given items for a user."""

from __future__ import annotations

from typing import Any

import numpy as np

from meshfold.protos.mesh.v1.scoring_pb2 import ScoreRequest, ScoreResponse
from tests.compat.conformance.shop import (
    IDS,
    ITEMS,
    LEAST,
    MOST,
    POPULARITY,
    SURFACE,
    TASKS,
    exact_vectors,
    over_arch_scores,
    similarities,
)
from tests.compat.conformance.targets import TIMEOUT_S, Target

QUERY = exact_vectors(10, 2)
UNKNOWN = 123_456_789


def score(target: Target, item_ids: Any, vectors: Any = QUERY, **parts: Any) -> ScoreResponse:
    message = ScoreRequest(**{"surface": SURFACE, "item_ids": item_ids, **parts})
    if vectors is not None:
        message.user.features["query_vector"].floats.values.extend(np.ravel(vectors).tolist())
    response: ScoreResponse = target.score(message, timeout=TIMEOUT_S)
    return response


def scores_of(response: ScoreResponse) -> Any:
    return np.array(response.task_scores, np.float32).reshape(-1, len(TASKS))


def test_items_come_in_the_order_of_the_request_as_often_as_it_names_them(target: Target) -> None:
    asked = [int(i) for i in IDS[[7, 3, 200, 3]]]
    response = score(target, asked)
    assert list(response.tasks) == list(TASKS)
    assert list(response.item_ids) == asked
    assert response.values[1] == response.values[3]
    np.testing.assert_allclose(
        scores_of(response), over_arch_scores(QUERY)[[7, 3, 200, 3]], rtol=0, atol=1e-5
    )


def test_values_are_the_formulas_of_the_scores(target: Target) -> None:
    response = score(target, IDS.tolist(), value_formula="mixed", task_weights={"like": 0.25})
    scores = scores_of(response).astype(np.float64)
    assert list(response.values) == (0.25 * scores[:, 0] + scores[:, 1]).astype(np.float32).tolist()
    default = score(target, IDS.tolist())
    scores = scores_of(default).astype(np.float64)
    assert list(default.values) == (0.5 * scores[:, 0] + scores[:, 1]).astype(np.float32).tolist()
    near = score(target, IDS.tolist(), value_formula="similarity")
    assert list(near.values) == similarities(list(QUERY)).max(0).tolist()
    cheap = score(target, IDS.tolist(), value_formula="cheap")
    assert list(cheap.values) == [-(i.price or 0.0) for i in ITEMS]


def test_unknown_items_come_apart(target: Target) -> None:
    response = score(target, [UNKNOWN, LEAST, UNKNOWN + 1, MOST, UNKNOWN])
    assert list(response.item_ids) == [LEAST, MOST]
    assert list(response.unknown_item_ids) == [UNKNOWN, UNKNOWN + 1, UNKNOWN]
    assert (len(response.values), len(response.task_scores)) == (2, 4)
    none = score(target, [UNKNOWN])
    assert (list(none.item_ids), list(none.values), list(none.unknown_item_ids)) == ([], [], [UNKNOWN])


def test_of_whom_nothing_is_known_values_what_is_popular(target: Target) -> None:
    response = score(target, IDS.tolist(), None, value_formula="similarity")
    assert list(response.values) == POPULARITY.tolist()
    assert scores_of(response).tolist() == [[p, p] for p in POPULARITY.tolist()]


def test_a_history_is_no_reason_to_leave_an_item_out(target: Target) -> None:
    asked = IDS[:20].tolist()
    response = score(target, asked, user={"history": asked})
    assert list(response.item_ids) == asked
    assert list(response.values) == list(score(target, asked).values)


def test_no_items_have_no_values(target: Target) -> None:
    response = score(target, [])
    assert (list(response.tasks), len(response.values), len(response.unknown_item_ids)) == (list(TASKS), 0, 0)
    assert response.version
