import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.model.data.generated import (
    ITEMS_PER_BLOCK,
    World,
    item_like_queries,
    item_vectors,
    user_vectors,
)
from meshfold.model.errors import InvalidData

N = ITEMS_PER_BLOCK + 700


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 3 * ITEMS_PER_BLOCK))
def test_the_chunks_do_not_change_the_vectors(chunk: int) -> None:
    world = World(N, 4, seed=3)
    whole = np.concatenate([world.items_of_block(block) for block in range(world.blocks)])
    chunks = list(item_vectors(N, 4, 3, chunk))
    assert [len(c) for c in chunks[:-1]] == [chunk] * (len(chunks) - 1)
    np.testing.assert_array_equal(np.concatenate(chunks), whole)


def test_another_seed_gives_another_catalog() -> None:
    one, other = (np.concatenate(list(item_vectors(100, 8, seed))) for seed in (1, 2))
    assert not np.isclose(one, other).any(axis=1).all()
    assert not (user_vectors(5, 8, 1, items=100) == user_vectors(5, 8, 2, items=100)).any()


def test_items_have_lengths_near_one_that_vary() -> None:
    lengths = np.linalg.norm(np.concatenate(list(item_vectors(N, 64, 0))), axis=1)
    assert 0.9 < lengths.mean() < 1.1
    assert 0.15 < lengths.std() < 0.3


def test_items_of_a_topic_are_nearer_than_others_but_overlap() -> None:
    world = World(4096, 64, 0)
    items, topics = world.items_of_block(0), world.topics_of_block(0)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    cosines = items @ items.T
    same = (topics[:, None] == topics[None, :]) & ~np.eye(len(items), dtype=bool)
    inside, outside = cosines[same], cosines[topics[:, None] != topics[None, :]]
    assert inside.mean() > 0.4 > 0.05 > abs(outside.mean())
    assert np.quantile(outside, 0.999) > np.quantile(inside, 0.25)


def test_users_are_not_drawn_as_items_are() -> None:
    items = np.concatenate(list(item_vectors(N, 64, 0)))
    users, like = user_vectors(600, 64, 0, items=N), item_like_queries(600, 64, 0, items=N)
    assert np.linalg.norm(users.mean(axis=0)) > 3 * np.linalg.norm(items.mean(axis=0))
    assert np.linalg.norm(like.mean(axis=0)) < 0.2
    user_std, item_std = users.std(axis=0).mean(), items.std(axis=0).mean()
    assert not np.isclose(user_std, item_std, rtol=0.01)


def test_topics_grow_with_the_root_of_the_items() -> None:
    assert [World(n, 2).topics for n in (1, 100, 10_000)] == [1, 10, 100]
    assert World(1 << 30, 2).topics == 1 << 14


@pytest.mark.parametrize(
    ("n", "dimension", "seed"), [(0, 2, 0), (1 << 31, 2, 0), (1, 0, 0), (1, 1 << 20, 0), (1, 2, -1)]
)
def test_sizes_beyond_the_limits_are_refused(n: int, dimension: int, seed: int) -> None:
    with pytest.raises(InvalidData, match="must lie in"):
        World(n, dimension, seed)


def test_counts_beyond_the_limits_are_refused() -> None:
    with pytest.raises(InvalidData, match="queries must lie in 1"):
        user_vectors(0, 2, items=10)
    with pytest.raises(InvalidData, match="chunk must lie in 1"):
        item_vectors(10, 2, chunk=0)
