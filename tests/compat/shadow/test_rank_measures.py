from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from meshfold.compat.shadow.pairs import ItemIds, SideAnswer
from meshfold.compat.shadow.rank_measures import (
    common_counts,
    first_difference,
    jaccard,
    kendall_tau,
    ndcg,
    overlap,
    places_in,
    rank_biased_overlap,
)
from meshfold.compat.shadow.tied_list import TiedList, tied_list

TOLERANCE = 1e-6


def listed(items: list[int], scores: list[float] | None = None) -> TiedList:
    return tied_list(SideAnswer(tuple(items), tuple(scores or ())), TOLERANCE)


@st.composite
def answers(draw: st.DrawFn, most: int = 5) -> TiedList:
    items = draw(st.lists(st.integers(0, 6), max_size=most, unique=True))
    scores = sorted(draw(st.lists(st.integers(1, 3), min_size=len(items), max_size=len(items))), reverse=True)
    # Groups that two answers draw are on scales of their own, so that the ends are no common tie.
    scale = draw(st.floats(1.0, 2.0, exclude_min=True))
    return listed(items, [score * scale for score in scores])


def orders(a: TiedList, extra: Collection[int | str] = ()) -> Iterator[ItemIds]:
    """Every order that the ties allow; the last group draws from extra too."""
    bounds = sorted({*a.starts.tolist(), len(a)})
    groups = [a.item_ids[start:end] for start, end in itertools.pairwise(bounds)]
    choices = [list(itertools.permutations(group)) for group in groups[:-1]]
    if groups:
        choices.append(list(itertools.permutations((*groups[-1], *extra), len(groups[-1]))))
    for chosen in itertools.product(*choices):
        yield tuple(itertools.chain(*chosen))  # type: ignore[misc]


def last_group_without(a: TiedList, b: TiedList) -> list[int | str]:
    return [item for item in a.item_ids[a.starts[-1] :] if item not in b.item_ids]


def best_counts(a: TiedList, b: TiedList, open_ends: bool) -> list[int]:
    prefixes_a = list(orders(a, last_group_without(b, a) if open_ends else ()))
    prefixes_b = list(orders(b, last_group_without(a, b) if open_ends else ()))
    return [
        max(len(set(x[:d]) & set(y[:d])) for x in prefixes_a for y in prefixes_b)
        for d in range(1, max(len(a), len(b)) + 1)
    ]


@settings(max_examples=100, deadline=None)
@given(answers(4), answers(4))
def test_overlap_is_the_best_over_orders_of_ties(a: TiedList, b: TiedList) -> None:
    # Lists shorter than was asked for were not cut.
    assert common_counts(a, b, places_in(a, b), 99, TOLERANCE).tolist() == best_counts(a, b, False)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_items_tied_with_the_cut_may_stand_for_each_other(data: st.DataObject) -> None:
    def one() -> TiedList:
        items = data.draw(st.lists(st.integers(0, 5), min_size=3, max_size=3, unique=True))
        return listed(items, [3.0, *data.draw(st.sampled_from([(2.0, 1.0), (1.0, 1.0)]))])

    a, b = one(), one()
    x, y = (dict(zip(of.item_ids, np.asarray(of.scores).tolist(), strict=True)) for of in (a, b))
    common = x.keys() & y.keys()
    has_one_scale = 0 < len(common) <= 2 * sum(x[item] == y[item] for item in common)
    shares_last = a.has_ties and b.has_ties and any(x[item] == y[item] == 1 for item in common)
    counts = common_counts(a, b, places_in(a, b), 3, TOLERANCE)
    assert counts.tolist() == best_counts(a, b, has_one_scale or shares_last)


def test_overlap_in_cases_that_can_be_seen() -> None:
    def at(a: TiedList, b: TiedList, depth: int, max_results: int = 0) -> float:
        return overlap(common_counts(a, b, places_in(a, b), max_results, TOLERANCE), depth)

    assert at(listed([]), listed([]), 10) == 1
    assert at(listed([]), listed([1, 2]), 10) == 0
    assert at(listed([1, 2, 3]), listed([3, 1, 2]), 100) == 1
    assert at(listed([1, 2, 3]), listed([1, 2]), 100) == pytest.approx(2 / 3)
    assert at(listed([1, 2, 3]), listed([1, 4, 2]), 2) == 0.5
    # The same cut score, so that 3 and 4 are tied; where fewer came back than were asked for, nothing was cut.
    assert at(listed([1, 2, 3], [3, 2, 1]), listed([1, 2, 4], [3, 2, 1.0000001]), 0, 3) == 1
    assert at(listed([1, 2, 3], [3, 2, 1]), listed([1, 2, 4], [3, 2, 1]), 0, 4) == pytest.approx(2 / 3)
    assert at(listed([1, 2, 3], [3, 2, 1]), listed([1, 2, 4], [3, 2, 1.1]), 0, 3) == pytest.approx(2 / 3)
    # On scales of their own, but 2 is tied with the cut on either side.
    assert at(listed([1, 2, 3], [3, 1, 1]), listed([1, 2, 4], [9, 8, 8]), 0, 3) == 1
    # Equal numbers of two systems that share no item, or score those that they share otherwise, are no ties.
    assert at(listed([1, 2, 3], [3, 1, 1]), listed([4, 5, 6], [3, 1, 1]), 0, 3) == 0
    assert at(listed([1, 2, 3], [3, 2, 1]), listed([2, 1, 4], [8, 7, 1]), 0, 3) == pytest.approx(2 / 3)
    # Scores that are all the same tell no order.
    assert at(listed([1, 2], [5, 5]), listed([3, 4], [5, 5]), 0, 2) == 0


def test_jaccard_and_first_difference() -> None:
    a, b = listed([1, 2, 3, 4]), listed([1, 2, 5])
    counts = common_counts(a, b, places_in(a, b))
    assert [jaccard(counts, depth, 4, 3) for depth in (2, 3, 0)] == [1, 0.5, 0.4]
    assert first_difference(counts) == 3
    same = common_counts(a, a, places_in(a, a))
    assert first_difference(same) == 5
    assert jaccard(common_counts(listed([]), listed([]), places_in(listed([]), listed([]))), 10, 0, 0) == 1
    tied = listed([2, 1, 3], [2, 2, 1])
    strict = listed([1, 2, 3], [9, 8, 7])
    assert first_difference(common_counts(tied, strict, places_in(tied, strict))) == 4


def rbo_by_definition(a: TiedList, b: TiedList, p: float, depth: int) -> float:
    """(1 - p) sum of p^(d-1) A_d, with what is not seen assumed as the paper says, summed far past both ends."""
    short, long = sorted((a, b), key=len)
    s, l = len(short), len(long)  # noqa: E741

    def top(x: TiedList, d: int) -> set[int | str]:
        return {x.item_ids[place] for place in np.flatnonzero(x.starts < d)}

    def agreement(d: int) -> float:
        if d > l:
            return agreement(l)
        shared, sizes = float(len(top(short, d) & top(long, d))), len(top(short, d)) + len(top(long, d))
        if d > s:
            # The places past the short list's end agree as far as its own s places do.
            shared += agreement(s) * (d - s)
            sizes += d - s
        return 2 * shared / sizes

    return (1 - p) * sum(p ** (d - 1) * agreement(d) for d in range(1, depth))


@settings(max_examples=100, deadline=None)
@given(answers(), answers(), st.sampled_from([0.5, 0.9]))
def test_rbo_is_its_definition_summed(a: TiedList, b: TiedList, p: float) -> None:
    told = rank_biased_overlap(a, b, places_in(a, b), p)
    if not (len(a) and len(b)):
        assert told == float(len(a) == len(b))
        return
    assert told == pytest.approx(rbo_by_definition(a, b, p, 400), abs=1e-9)
    assert told == pytest.approx(rank_biased_overlap(b, a, places_in(b, a), p), abs=1e-12)
    assert 0 <= told <= 1 + 1e-12


def test_rbo_is_equation_32_without_ties() -> None:
    long, short, p = listed([3, 1, 9, 4, 7, 2]), listed([1, 3, 5]), 0.8
    shared = [len(set(long.item_ids[:d]) & set(short.item_ids[:d])) for d in range(1, 7)]
    s, l = 3, 6  # noqa: E741
    total = sum(x / d * p**d for d, x in enumerate(shared, start=1))
    total += sum(shared[s - 1] * (d - s) / (s * d) * p**d for d in range(s + 1, l + 1))
    expected = (1 - p) / p * total + ((shared[-1] - shared[s - 1]) / l + shared[s - 1] / s) * p**l
    assert rank_biased_overlap(long, short, places_in(long, short), p) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(answers(), answers())
def test_tau_is_scipys_on_scores_of_common_items(a: TiedList, b: TiedList) -> None:
    def values(of: TiedList) -> dict[int | str, float]:
        told = of.scores if of.has_ties and of.scores is not None else -np.arange(len(of))
        return dict(zip(of.item_ids, told.tolist(), strict=True))

    x_of, y_of = values(a), values(b)
    common = [item for item in x_of if item in y_of]
    x, y = [x_of[item] for item in common], [y_of[item] for item in common]
    told = kendall_tau(a, b, places_in(a, b))
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert math.isnan(told)
    else:
        assert told == pytest.approx(kendalltau(x, y).statistic)


# Answers of ir-measures 0.4.3 (nDCG@3, nDCG@10, nDCG) for a list graded N to 1 by the list 0, 1, ... N - 1.
IR_MEASURES = [
    (8, [1, 4, 3, 101, 7, 102, 2, 100], [0.7799249220255533, 0.6807697518660811, 0.6807697518660811]),
    (12, [3, 101, 100, 11, 2, 102, 8], [0.3759362804390654, 0.3746819082870523, 0.366901753341975]),
    (
        6,
        [100, 1, 107, 4, 104, 2, 103, 105, 5, 3, 102, 108, 101, 0, 106],
        [0.28281022858806415, 0.48679782637948593, 0.5999151856118095],
    ),
    (10, [108, 105, 107, 106, 101, 103, 104, 109, 100, 102], [0.0, 0.0, 0.0]),
]


@pytest.mark.parametrize(("length", "items", "expected"), IR_MEASURES)
def test_ndcg_is_that_of_ir_measures(length: int, items: list[int], expected: list[float]) -> None:
    a, b = listed(list(range(length))), listed(items)
    assert ndcg(a, b, places_in(a, b), (3, 10, 0)) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(answers(), answers())
def test_ndcg_of_ties_is_the_mean_over_their_orders(a: TiedList, b: TiedList) -> None:
    told = ndcg(a, b, places_in(a, b), (1, 2, 3, 0))
    if not len(a):
        assert all(math.isnan(value) if len(b) else value == 1 for value in told)
        return
    grades = {item: len(a) - start for item, start in zip(a.item_ids, a.starts.tolist(), strict=True)}

    def dcg(items: ItemIds, depth: int) -> float:
        gains = [float(grades.get(item, 0)) for item in items[:depth]]
        return math.fsum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))

    for depth, value in zip((1, 2, 3, 99), told, strict=True):
        mean = float(np.mean([dcg(order, depth) for order in orders(b)])) if len(b) else 0.0
        assert value == pytest.approx(mean / dcg(a.item_ids, depth), abs=1e-9)


def test_a_list_with_duplicates_nan_and_odd_scores() -> None:
    kept = tied_list(SideAnswer((7, 7, 8, 7, 9), (3.0, 2.0, math.nan, 1.0, math.nan)), TOLERANCE)
    assert (kept.item_ids, kept.duplicates, kept.nan_scores, kept.has_ties) == ((7, 8, 9), 2, 2, False)
    odd = tied_list(SideAnswer((1, 2, 3), (1.0,)), TOLERANCE)
    assert odd.has_odd_scores
    assert odd.scores is None
    infinite = tied_list(SideAnswer((1, 2, 3), (math.inf, math.inf, -math.inf)), TOLERANCE)
    assert infinite.ends.tolist() == [2, 2, 3]


def test_a_tie_group_spans_no_more_than_the_tolerance() -> None:
    # Each is within 1 % of the next, but the third is 1.8 % from the first.
    a = tied_list(SideAnswer((1, 2, 3), (1.0, 0.991, 0.982)), 0.01)
    assert a.ends.tolist() == [2, 2, 3]
