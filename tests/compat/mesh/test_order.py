from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from meshfold.compat.mesh.order import Numbers, best


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(0, 45), st.randoms(use_true_random=False))
def test_the_best_are_in_order_and_ties_go_to_the_smaller_number(
    scores: list[int], k: int, random: object
) -> None:
    numbers = list(range(100, 100 + len(scores)))
    random.shuffle(numbers)  # type: ignore[attr-defined]
    places = best(np.array(numbers, np.int64), np.array(scores, np.float32), k)
    wanted = sorted(range(len(scores)), key=lambda i: (-scores[i], numbers[i]))[:k]
    assert places.tolist() == wanted


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@given(st.lists(st.lists(TEXT, unique=True, max_size=8).map(tuple), min_size=1, max_size=3))
def test_numbers_of_strings_are_in_the_order_of_their_utf_8_bytes(lists: list[tuple[str, ...]]) -> None:
    numbers = Numbers(lists)
    for strings in lists:
        found = numbers.of(strings)
        order = sorted(range(len(strings)), key=lambda i: strings[i].encode())
        assert np.argsort(found, kind="stable").tolist() == order
        if strings:
            assert numbers.ids_at(found) == strings
    everything = [n for strings in lists for n in numbers.of(strings).tolist()]
    assert len(set(everything)) == len({string for strings in lists for string in strings})


def test_numbers_of_integers_are_the_integers() -> None:
    lists = [np.array([5, -3, 2**63 - 1]), np.array([], np.int64)]
    numbers = Numbers(lists)
    assert [numbers.of(ids).tolist() for ids in lists] == [ids.tolist() for ids in lists]
    assert numbers.ids_at(lists[0]) is lists[0]
