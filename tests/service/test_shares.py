from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshfold.model.errors import Overloaded
from meshfold.service.shares import Shares


def taken(shares: Shares, holder: str) -> int:
    """How many ones the holder gets."""
    count = 0
    while shares.take(holder, 1):
        count += 1
    return count


def test_one_greedy_holder_gets_half_and_n_leave_a_share_for_the_next() -> None:
    shares = Shares(1000)
    assert [taken(shares, f"holder {n}") for n in range(4)] == [500, 250, 125, 62]
    assert shares.used == 937


def test_greedy_holders_that_take_turns_have_as_much_each() -> None:
    shares = Shares(1000)
    held = dict.fromkeys("abcd", 0)
    for holder in "abcd" * 300:
        held[holder] += shares.take(holder, 1)
    assert held == dict.fromkeys("abcd", 200)


def test_what_is_given_back_can_be_taken_again() -> None:
    shares = Shares(100)
    assert taken(shares, "greedy") == 50
    assert not shares.take("greedy", 1)
    shares.give_back("greedy", 10)
    assert shares.used == 40
    assert taken(shares, "greedy") == 10
    shares.give_back("greedy", 50)
    # A holder of nothing is a new one.
    assert shares.take("greedy", 100)


def test_an_amount_is_all_of_an_unused_budget_or_leaves_as_much() -> None:
    shares = Shares(100)
    assert not shares.take("a", 101)
    assert shares.take("a", 100)
    shares.give_back("a", 100)
    assert shares.take("a", 60)
    assert not shares.take("b", 21)
    assert shares.take("b", 20)
    assert shares.take("c", 0)


def test_the_last_one_is_for_whoever_has_none() -> None:
    shares = Shares(4)
    assert [shares.take(holder, 1) for holder in "aaabbcc"] == [True, True, False, True, False, True, False]
    assert not shares.take("d", 1)


def test_greedy_holders_of_large_amounts_leave_room_for_small_ones() -> None:
    shares = Shares(64_000)
    for n in range(10_000):
        shares.take(n, 600)
    assert shares.take("modest", 40)


def test_a_block_holds_an_amount_however_it_ends() -> None:
    shares = Shares(1)
    with shares.held("a", "calls wait"):
        assert shares.used == 1
        with (
            pytest.raises(Overloaded, match="calls wait already; try again later"),
            shares.held("b", "calls wait"),
        ):
            raise AssertionError
        assert shares.used == 1
    with pytest.raises(KeyError), shares.held("a", "calls wait"):
        raise KeyError
    assert shares.used == 0


@given(st.integers(0, 50), st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20))))
def test_never_more_than_the_budget_nor_more_than_is_left_to_others(
    budget: int, wanted: list[tuple[str, int]]
) -> None:
    shares = Shares(budget)
    amounts: list[tuple[str, int]] = []
    for holder, amount in wanted:
        if shares.take(holder, amount):
            amounts.append((holder, amount))
        assert shares.used == sum(amount for _, amount in amounts) <= budget
    for holder, amount in amounts:
        shares.give_back(holder, amount)
    assert shares.used == 0
    assert shares.take("anyone", budget)
