from __future__ import annotations

import numpy as np
import pytest

from meshfold.compat.mesh_v1 import embed
from meshfold.model.errors import InvalidQuery
from meshfold.model.types import Embeddings, EmbedQuery
from meshfold.protos.mesh.v1 import user_tower_pb2 as pb


def test_users_come_in_their_order() -> None:
    request = pb.EmbedRequest(surface="movies", users=[{"user_id": 7, "history": [1, 300]}, {}])
    request.users[1].features["age"].ints.values.append(34)
    query = embed.decode(request.SerializeToString())
    first, second = query.users
    assert (query.surface, first.user_id, np.asarray(first.history).tolist(), first.features) == (
        "movies",
        7,
        [1, 300],
        {},
    )
    age = second.features["age"]
    assert isinstance(age, np.ndarray)
    assert (str(age.dtype), age.tolist()) == ("int64", [34])
    assert embed.decode(b"").users == ()


def test_vectors_come_by_user_and_task() -> None:
    vectors = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    message = embed.encode(EmbedQuery("movies", ()), Embeddings(("like", "watch"), "v1", vectors))
    response = pb.EmbedResponse.FromString(message)
    assert (list(response.tasks), response.version) == (["like", "watch"], "v1")
    assert [[list(e.values) for e in user.embeddings] for user in response.users] == vectors.tolist()


def test_a_feature_that_is_not_set_is_refused_with_the_user_it_is_of() -> None:
    request = pb.EmbedRequest(users=[{}, {}])
    request.users[1].features["age"].SetInParent()
    with pytest.raises(InvalidQuery) as caught:
        embed.decode(request.SerializeToString())
    assert caught.value.path == 'users[1].features["age"]'
