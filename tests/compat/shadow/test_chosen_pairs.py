from __future__ import annotations

import random

import pytest

from meshfold.compat.shadow.chosen_pairs import ChosenPairs
from meshfold.compat.shadow.pairs import Pair, SideAnswer


def pair(number: int, common: int) -> Pair:
    mesh = tuple(range(10))
    return Pair(
        f"r{number}", mesh=SideAnswer(mesh), model=SideAnswer((*mesh[:common], *range(100, 110 - common)))
    )


def chosen(pairs: list[Pair], most: int) -> set[str]:
    found = ChosenPairs(most)
    for one in pairs:
        found.offer(one)
    return set(found.request_ids)


@pytest.mark.parametrize("most", [0, 1, 2, 7, 50, 100, 1000])
def test_half_are_the_worst_and_none_is_chosen_twice(most: int) -> None:
    pairs = [pair(number, common=number // 10) for number in range(100)]
    found = chosen(pairs, most)
    assert len(found) == min(most, 100)
    worst = min((most + 1) // 2, 100)
    if worst and worst % 10 == 0:
        assert {f"r{number}" for number in range(worst)} <= found
    random.Random(0).shuffle(pairs)
    assert chosen(pairs, most) == found


def test_equal_pairs_are_drawn() -> None:
    found = chosen([pair(number, 5) for number in range(100)], 30)
    assert len(found) == 30
    assert found != {f"r{number}" for number in range(30)}


def test_pairs_without_differences_are_left_out() -> None:
    same = Pair("same", mesh=SideAnswer((1, 2)), model=SideAnswer((2, 1)))
    failed = Pair("failed", mesh=SideAnswer((1,)), model=SideAnswer((), status="UNAVAILABLE"))
    alone = Pair("alone", mesh=SideAnswer((1,)))
    assert chosen([same, failed, alone, pair(1, 9)], 10) == {"r1"}
