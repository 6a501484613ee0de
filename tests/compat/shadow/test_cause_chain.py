"""Chains of lists, filters with parts ignored, and what rounding explains."""

from __future__ import annotations

import math

import pytest

from meshfold.compat.shadow.attribution.chain import Chain
from meshfold.compat.shadow.attribution.cut import Cut, is_ordered
from meshfold.compat.shadow.attribution.faulty_filter import MOST, without_parts
from meshfold.compat.shadow.attribution.ranking import Ranking
from meshfold.compat.shadow.comparison import Cause
from meshfold.model.filter.expression import All, Exists, Not
from meshfold.model.filter.text import format_filter, parse_filter


def test_an_item_has_the_cause_whose_undoing_changes_its_side() -> None:
    chain = Chain(frozenset({1, 2, 3}))
    chain.add(frozenset({1, 2, 4}), Cause.MODEL_ANN_MISS)
    chain.add(frozenset({1, 4, 5}), Cause.SCORES)
    chain.add(frozenset({4, 5, 6}), Cause.MESH_ANN_MISS)
    assert {i: chain.cause_of(i) for i in (1, 2, 3, 4, 5, 6)} == {
        1: Cause.MESH_ANN_MISS,
        2: Cause.SCORES,
        3: Cause.MODEL_ANN_MISS,
        4: Cause.MODEL_ANN_MISS,
        5: Cause.SCORES,
        6: Cause.MESH_ANN_MISS,
    }


def test_of_two_causes_whose_undoing_restores_an_item_the_fault_counts() -> None:
    chain = Chain(frozenset({1}))
    chain.add(frozenset(), Cause.MODEL_ANN_MISS)
    chain.add(frozenset({1}), Cause.MESH_ANN_MISS)
    chain.add(frozenset(), Cause.USER_VECTOR)
    assert chain.cause_of(1) == Cause.USER_VECTOR


def test_steps_that_change_nothing_are_no_causes() -> None:
    chain = Chain(frozenset({1}))
    chain.add(frozenset({1}), Cause.MODEL_FILTER)
    chain.add(frozenset({2}), Cause.TIE)
    assert [chain.cause_of(1), chain.cause_of(2)] == [Cause.TIE, Cause.TIE]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('!(genre == "a")', ["true", 'genre == "a"']),
        ('year >= 1990 && !(genre == "a")', ["year >= 1990 && true", 'year >= 1990 && genre == "a"']),
    ],
)
def test_ignored_negations_are_tried_first(text: str, expected: list[str]) -> None:
    tried = without_parts(parse_filter(text))
    assert [format_filter(f) for f in tried[:2]] == [format_filter(parse_filter(t)) for t in expected]


def test_each_condition_is_left_out_once_and_filters_are_bounded() -> None:
    texts = [format_filter(f) for f in without_parts(parse_filter("year >= 1990 && has(tags) && price < 3"))]
    assert set(texts) >= {
        format_filter(parse_filter(text))
        for text in ("has(tags) && price < 3", "year >= 1990 && price < 3", "year >= 1990 && has(tags)")
    }
    assert len(texts) == len(set(texts))
    wide = All(tuple(Not(Exists(f"f{i}")) for i in range(100)))
    assert len(without_parts(wide)) == MOST


def test_rounding_and_order_of_scores() -> None:
    assert is_ordered([3.0, 2.0, 2.0005, 1.0])
    assert not is_ordered([3.0, 2.0, 2.1, 1.0])
    assert is_ordered([])


def test_a_cut_tells_ties_precision_and_what_neither_explains() -> None:
    values = [(i, 2.0 - i / 10) for i in range(10)]
    ranking = Ranking.of([*values, (50, 1.5 - 1e-7), (51, 1.5 - 5e-4)])
    # Of the best six, 5 is missing.
    for other, cause in ((50, Cause.TIE), (51, Cause.PRECISION), (8, Cause.UNKNOWN)):
        answer = [0, 1, 2, 3, 4, other]
        cut = Cut(answer, [], ranking, 6, {}, lambda _: Cause.UNKNOWN)
        assert cut.cause_of(5) == cut.cause_of(other) == cause, other
    unvalued = Cut([0, 1, 2, 3, 4, 99], [], ranking, 6, {}, lambda _: Cause.UNKNOWN)
    assert unvalued.cause_of(99) == Cause.UNKNOWN
    assert math.isnan(unvalued.gap(99))
