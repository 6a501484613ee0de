from __future__ import annotations

import numpy as np
import pytest

from meshfold.compat.mesh.items import Items
from meshfold.compat.mesh.tower import Tower
from meshfold.model.errors import InvalidQuery
from meshfold.model.snapshot import Snapshot
from meshfold.model.types import QUERY_VECTOR, EmbedQuery, Float32s, User


@pytest.fixture(scope="module")
def tower(snapshot: Snapshot, items: Items) -> Tower:
    return Tower(snapshot, items)


def users(items: Items) -> list[User]:
    vectors = np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32)
    return [
        User(1, items.ids.keys()[:5]),
        User(),
        User(2, np.array([items.ids.keys()[0], -5, items.ids.keys()[9]])),
        User(3, np.array([-1, -2])),
        User(4, items.ids.keys()[:3], {QUERY_VECTOR: vectors.ravel()}),
        User(5, features={QUERY_VECTOR: vectors[0]}),
        User(6, items.ids.keys()[:200]),
    ]


def embedded(tower: Tower, *asked: User) -> Float32s:
    (answer,) = tower.embed([tower.prepare_embed(EmbedQuery("shop", asked))])
    assert answer.tasks == tower.schema.tasks
    assert answer.version == tower.version
    return answer.vectors


def test_the_mean_of_a_history_is_normalised_and_the_same_for_every_task(tower: Tower, items: Items) -> None:
    ((like, watch),) = embedded(tower, User(1, items.ids.keys()[:5]))
    mean = items.vectors[:5].numpy().sum(0)
    np.testing.assert_allclose(like, mean / np.linalg.norm(mean), atol=1e-6)
    assert (like == watch).all()


def test_vectors_that_come_with_the_request_go_back_and_of_nobody_zeros_do(
    tower: Tower, items: Items
) -> None:
    vectors = embedded(tower, *users(items))
    given = np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32)
    assert (vectors[4] == given).all()
    assert (vectors[5] == given[0]).all()
    assert not vectors[[1, 3]].any()
    assert vectors[[0, 2, 6]].any(axis=(1, 2)).all()


def test_users_and_requests_that_are_computed_together_get_what_they_get_alone(
    tower: Tower, items: Items
) -> None:
    everyone = users(items)
    queries = [
        EmbedQuery("shop", tuple(everyone[:3])),
        EmbedQuery("shop", ()),
        EmbedQuery("shop", tuple(everyone[3:])),
    ]
    answers = tower.embed([tower.prepare_embed(query) for query in queries])
    assert [len(answer.vectors) for answer in answers] == [3, 0, 4]
    alone = np.concatenate([embedded(tower, user) for user in everyone])
    assert (np.concatenate([answer.vectors for answer in answers]) == alone).all()


def test_a_user_that_does_not_fit_is_named(tower: Tower) -> None:
    bad = User(features={QUERY_VECTOR: np.zeros(3, np.float32)})
    with pytest.raises(
        InvalidQuery, match=r'users\[1\].features\["query_vector"\]: has 3 values; expected 8, or 16'
    ):
        tower.prepare_embed(EmbedQuery("shop", (User(), bad)))
