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
def test_histories_are_oldest_first(rows: list[tuple[int, int, int, bool]]) -> None:
    interactions = _interactions(rows)
    users = sorted({row[0] for row in rows})
    assert interactions.users.tolist() == users
    for place, user in enumerate(users):
        start, end = interactions.user_offsets[place : place + 2]
        times, items = interactions.times[start:end].tolist(), interactions.item_ids[start:end].tolist()
        assert times == sorted(times)
        assert sorted(zip(times, items, strict=True)) == sorted((t, i) for u, i, t, _ in rows if u == user)
        assert interactions.history(user).tolist() == items
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
        whole = interactions.history(user).tolist()
        before, after = earlier.history(user).tolist(), latest.history(user).tolist()
        assert before + after == whole
        if len(whole) > 1:
            assert before
            assert after
        mine = interactions.times[interactions.user_ids == user]
        wanted = max(int(len(whole) * share), min(len(whole) - 1, 1))
        if len(set(mine.tolist())) == len(whole):
            assert len(after) == wanted
        assert 2 * len(after) <= max(len(whole), 2 * wanted)


def _by_time(*times: int) -> Interactions:
    n = len(times)
    return Interactions(np.zeros(n, np.int64), np.arange(n), np.array(times, np.int64), {})


@pytest.mark.parametrize(
    ("times", "held", "tied"),
    [
        ((1, 2, 3, 4, 5, 6, 7, 8, 9, 10), 2, 0.0),
        # The group of 8 holds three: it moves to the nearer side.
        ((1, 2, 3, 4, 5, 6, 8, 8, 8, 10), 1, 0.0),
        ((1, 2, 3, 4, 5, 6, 7, 8, 8, 8), 3, 0.0),
        # Held out would be nearly everything, or everything: the cut stays inside the group.
        ((1, 2, 2, 2, 2, 2, 2, 2, 2, 2), 2, 1.0),
        ((7,) * 10, 2, 1.0),
        ((7, 7, 7, 7, 7, 7, 7, 7, 7, 9), 1, 0.0),
        ((3, 3), 1, 1.0),
        ((3,), 0, 0.0),
        ((), 0, 0.0),
    ],
)
def test_a_cut_goes_between_times_where_it_can(times: tuple[int, ...], held: int, tied: float) -> None:
    interactions = _by_time(*times)
    earlier, latest = interactions.split_latest(0.2)
    assert (len(latest), interactions.tied_cuts(0.2)) == (held, tied)
    if not tied:
        assert not set(earlier.times.tolist()) & set(latest.times.tolist())


def test_equal_times_hold_out_all_ids_alike() -> None:
    users, items = np.repeat(np.arange(300), 40), np.tile(np.arange(40), 300)
    interactions = Interactions(users, items, np.zeros(12_000, np.int64), {})
    _, latest = interactions.split_latest(0.2)
    share = np.bincount(latest.item_ids, minlength=40) / 300
    # Four standard deviations of a draw of 8 of 40, 300 times.
    assert np.abs(share - 0.2).max() < 4 * np.sqrt(0.2 * 0.8 / 300)


def test_the_order_of_equal_times_follows_from_user_and_item_alone() -> None:
    random = np.random.default_rng(3)
    users, items = random.integers(0, 5, 200), random.integers(-(2**62), 2**62, 200)
    times = np.zeros(200, np.int64)
    given = Interactions(users, items, times, {})
    order = random.permutation(200)
    again = Interactions(users[order], items[order], times, {})
    assert given.item_ids.tolist() == again.item_ids.tolist()


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
