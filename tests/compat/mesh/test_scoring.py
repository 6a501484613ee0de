from __future__ import annotations

import numpy as np
import pytest

from meshfold.compat.mesh.items import Items
from meshfold.compat.mesh.scoring import Scoring
from meshfold.model.errors import InvalidQuery, UnknownName
from meshfold.model.snapshot import Snapshot
from meshfold.model.types import QUERY_VECTOR, ScoreQuery, Scores, User


@pytest.fixture(scope="module")
def scoring(snapshot: Snapshot) -> Scoring:
    return Scoring(snapshot)


def scores(scoring: Scoring, query: ScoreQuery) -> Scores:
    (answer,) = scoring.score([scoring.prepare_score(query)])
    return answer


def test_similarities_are_the_dots_with_each_tasks_vector(scoring: Scoring, items: Items) -> None:
    vectors = np.random.default_rng(2).standard_normal((2, 8)).astype(np.float32)
    ids = items.ids.keys()[[7, 3, 7, 2999]]
    answer = scores(scoring, ScoreQuery("shop", User(features={QUERY_VECTOR: vectors.ravel()}), ids))
    wanted = items.vectors.numpy()[[7, 3, 7, 2999]] @ vectors.T
    assert np.asarray(answer.item_ids).tolist() == ids.tolist()
    np.testing.assert_allclose(answer.task_scores, wanted, atol=1e-5)
    np.testing.assert_allclose(answer.values, wanted.max(1), atol=1e-5)


def test_weights_make_a_sum_of_the_tasks(scoring: Scoring, items: Items) -> None:
    user = User(features={QUERY_VECTOR: np.ones(16, np.float32)})
    answer = scores(scoring, ScoreQuery("shop", user, items.ids.keys()[:9], {"like": 2.0, "watch": -1.0}))
    np.testing.assert_allclose(answer.values, answer.task_scores @ [2.0, -1.0], rtol=1e-5)


def test_of_an_unknown_user_popularity_is_every_score(scoring: Scoring, items: Items) -> None:
    answer = scores(scoring, ScoreQuery("shop", User(), items.ids.keys()[:50]))
    assert (answer.task_scores == items.popularity[:50, None]).all()
    assert (answer.values == items.popularity[:50]).all()


def test_items_that_are_not_there_are_told(scoring: Scoring, items: Items) -> None:
    asked = np.array([items.ids.keys()[1], 1, items.ids.keys()[0], 2])
    answer = scores(scoring, ScoreQuery("shop", User(), asked))
    assert np.asarray(answer.item_ids).tolist() == asked[[0, 2]].tolist()
    assert np.asarray(answer.unknown_ids).tolist() == [1, 2]
    assert scores(scoring, ScoreQuery("shop", User(), np.array([1]))).values.tolist() == []


def test_formulas_and_weights_are_checked(scoring: Scoring, items: Items) -> None:
    with pytest.raises(UnknownName, match="no value formula 'cheap'"):
        scoring.prepare_score(ScoreQuery("shop", User(), items.ids.keys()[:1], value_formula="cheap"))
    with pytest.raises(InvalidQuery, match=r'task_weights\["likes"\]'):
        scoring.prepare_score(ScoreQuery("shop", User(), items.ids.keys()[:1], {"likes": 1.0}))
