import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshfold.model.data.interactions import Interactions, places_of
from meshfold.model.errors import InvalidData

MAX = 2**63 - 1
ROWS = st.lists(
    st.tuples(st.sampled_from([-MAX - 1, -1, 4, MAX]), st.integers(0, 5), st.integers(0, 3), st.booleans()),
    max_size=30,
)


def _interactions(rows: list[tuple[int, int, int, bool]]) -> Interactions:
    users, items, times, likes = np.array(rows, np.int64).reshape(-1, 4).T
    return Interactions(users, items, times, {"like": likes.astype(bool)})


@given(ROWS)
def test_histories_are_oldest_first_and_ties_go_by_item(rows: list[tuple[int, int, int, bool]]) -> None:
    interactions = _interactions(rows)
    users = sorted({row[0] for row in rows})
    assert interactions.users.tolist() == users
    for place, user in enumerate(users):
        expected = [item for _, item in sorted((time, item) for u, item, time, _ in rows if u == user)]
        assert interactions.history(user).tolist() == expected
        start, end = interactions.user_offsets[place : place + 2]
        assert interactions.item_ids[start:end].tolist() == expected
    assert interactions.history(17).tolist() == []


@given(ROWS)
def test_tasks_and_popularity_follow_their_rows(rows: list[tuple[int, int, int, bool]]) -> None:
    liked = _interactions(rows).of_task("like")
    items = np.array([5, 0, 9, 2])
    expected = [sum(item == i and like for _, item, _, like in rows) for i in items]
    assert liked.popularity(items).tolist() == expected
    assert _interactions(rows).popularity(np.empty(0, np.int64)).tolist() == []


@given(ROWS, st.sampled_from([0.0, 0.2, 0.5]))
def test_a_split_holds_out_the_latest_of_each_user(
    rows: list[tuple[int, int, int, bool]], share: float
) -> None:
    interactions = _interactions(rows)
    earlier, latest = interactions.split_latest(share)
    for user in interactions.users:
        whole = interactions.history(user)
        held = max(int(len(whole) * share), min(len(whole) - 1, 1))
        assert latest.history(user).tolist() == whole[len(whole) - held :].tolist()
        assert earlier.history(user).tolist() == whole[: len(whole) - held].tolist()


@given(st.lists(st.integers(-9, 9), unique=True), st.lists(st.integers(-9, 9)))
def test_places_of_ids(known: list[int], ids: list[int]) -> None:
    places = places_of(np.array(ids, np.int64), np.array(known, np.int64))
    assert places.tolist() == [known.index(i) if i in known else -1 for i in ids]


def test_parts_of_unequal_length_are_refused() -> None:
    ones = np.ones(2, np.int64)
    with pytest.raises(InvalidData, match="like has 1 rows for 2 interactions"):
        Interactions(ones, ones, ones, {"like": np.ones(1, bool)})


def test_a_time_that_is_not_finite_is_refused() -> None:
    ones = np.ones(2, np.int64)
    with pytest.raises(InvalidData, match="time"):
        Interactions(ones, ones, np.array([1.0, np.nan]), {})
