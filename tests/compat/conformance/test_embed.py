"""UserTowerService/Embed: users to query vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from meshfold.protos.mesh.v1.types_pb2 import UserContext
from meshfold.protos.mesh.v1.user_tower_pb2 import EmbedRequest, EmbedResponse
from tests.compat.conformance.shop import IDS, SURFACE, TASKS, D, exact_vectors
from tests.compat.conformance.targets import TIMEOUT_S, Target


def embed(target: Target, *users: UserContext) -> EmbedResponse:
    response: EmbedResponse = target.embed(EmbedRequest(surface=SURFACE, users=users), timeout=TIMEOUT_S)
    return response


def vectors_of(response: EmbedResponse) -> Any:
    return np.array([[e.values for e in user.embeddings] for user in response.users], np.float32)


def user(history: Any = (), **features: str) -> UserContext:
    message = UserContext(history=list(history))
    for name, value in features.items():
        message.features[name].strings.values.append(value)
    return message


def test_a_user_has_a_vector_for_each_task(target: Target) -> None:
    response = embed(target, user(IDS[:3].tolist()), user(country="fr"))
    assert list(response.tasks) == list(TASKS)
    vectors = vectors_of(response)
    assert vectors.shape == (2, 2, D)
    assert len({vector.tobytes() for of_user in vectors for vector in of_user}) == 4


def test_users_come_in_their_order_and_do_not_change_each_other(target: Target) -> None:
    users = [user(IDS[i : i + 4].tolist(), country=f"c{i}") for i in range(8)]
    together = vectors_of(embed(target, *users))
    for place, one in enumerate(users):
        assert vectors_of(embed(target, one))[0].tobytes() == together[place].tobytes()
    assert len({vectors.tobytes() for vectors in together}) == 8


def test_of_whom_nothing_is_known_has_zeros(target: Target) -> None:
    vectors = vectors_of(embed(target, user(), user([123_456_789]), UserContext(user_id=5)))
    assert vectors.shape == (3, 2, D)
    assert not vectors.any()


def test_a_vector_that_comes_with_a_user_is_the_users(target: Target) -> None:
    given = exact_vectors(9, 2)
    with_vectors = user(IDS[:3].tolist())
    with_vectors.features["query_vector"].floats.values.extend(given.ravel().tolist())
    assert vectors_of(embed(target, with_vectors))[0].tolist() == given.tolist()


def test_no_users_have_no_vectors(target: Target) -> None:
    response = embed(target)
    assert (list(response.tasks), len(response.users)) == (list(TASKS), 0)
    assert response.version
