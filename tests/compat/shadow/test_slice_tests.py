from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_ind, ttest_rel

from meshfold.compat.shadow.compare_settings import CompareSettings
from meshfold.compat.shadow.pairs import Pair
from meshfold.compat.shadow.slice_tests import SlicedPairs, slices_against_rest, worst_first
from meshfold.compat.shadow.slice_values import OTHER, SliceColumn, SliceColumns, slices_of


def column(codes: list[int], values: int = 2, name: str = "s") -> SliceColumn:
    return SliceColumn(name, tuple(f"v{place}" for place in range(values)), np.array(codes))


def pairs_of(users: list[int], overlap: list[float]) -> SlicedPairs:
    return SlicedPairs(np.array(users), np.array(overlap), np.full(len(users), math.nan))


def test_users_of_one_side_each_are_tested_by_welch() -> None:
    generator = np.random.default_rng(0)
    inside, rest = generator.random(20), 0.2 + generator.random(40) * 0.5
    pairs = pairs_of(list(range(60)), [*inside, *rest])
    [one, other] = slices_against_rest(pairs, [column([0] * 20 + [1] * 40)], 20)
    expected = ttest_ind(inside, rest, equal_var=False)
    assert one.slice.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert one.slice.difference_from_rest == pytest.approx(inside.mean() - rest.mean())
    assert other.slice.p == pytest.approx(one.slice.p)


def test_users_of_both_sides_are_paired() -> None:
    generator = np.random.default_rng(0)
    level = generator.random(30)
    inside, rest = level - 0.05 + 0.02 * generator.random(30), level
    pairs = pairs_of([*range(30), *range(30)], [*inside, *rest])
    [one, _] = slices_against_rest(pairs, [column([0] * 30 + [1] * 30)], 20)
    # Welch takes more degrees of freedom than the paired test, and so a smaller p.
    assert one.slice.p <= ttest_rel(inside, rest).pvalue < 1e-10
    assert one.slice.p < ttest_ind(inside, rest).pvalue / 1e6


def test_slices_of_the_same_kind_are_seldom_significant() -> None:
    generator = np.random.default_rng(1)
    users, count = 200, 800
    found = []
    for run in range(60):
        told = np.where(generator.random(count) < 0.2, 0.0, generator.beta(8, 2, count))
        columns = [column(generator.integers(8, size=count).tolist(), 8, f"s{run}")]
        pairs = pairs_of(generator.integers(users, size=count).tolist(), told.tolist())
        found.append(slices_against_rest(pairs, columns, 20))
    p_values = [one.slice.p for group in found for one in group]
    assert len(p_values) == 480
    assert 0.03 < np.mean(np.array(p_values) < 0.05) < 0.07
    corrected = worst_first(found, CompareSettings(resamples=100, slices=1))
    assert sum(one.q <= 0.05 for group in corrected for one in group) <= 1


def test_slices_without_enough_users_on_either_side_are_left_out() -> None:
    pairs = pairs_of([*range(50)], [0.5] * 50)
    names = [one.slice.value for one in slices_against_rest(pairs, [column([0] * 19 + [1] * 31)], 20)]
    assert names == []
    assert slices_against_rest(pairs, [column([0] * 50, 1)], 20) == []
    # One user's many pairs are one user.
    assert (
        slices_against_rest(pairs_of([7] * 30 + [*range(30)], [0.5] * 60), [column([0] * 30 + [1] * 30)], 20)
        == []
    )


def test_without_variance_p_is_0_or_1() -> None:
    codes = column([0] * 25 + [1] * 25)
    differs = slices_against_rest(pairs_of([*range(50)], [0.0] * 25 + [1.0] * 25), [codes], 20)
    same = slices_against_rest(pairs_of([*range(50)], [1.0] * 50), [codes], 20)
    assert [one.slice.p for one in differs] == [0, 0]
    assert [one.slice.p for one in same] == [1, 1]
    [ranked] = worst_first([differs], CompareSettings(resamples=100))
    assert [one.value for one in ranked] == ["v0", "v1"]
    assert ranked[0].overlap.value == 0
    assert ranked[0].excess is None


def test_names_and_values_of_slices_are_bounded() -> None:
    columns = SliceColumns()
    for number in range(1100):
        columns.add({"many": str(number), **({f"name {number}": "x"} if number < 100 else {})})
    columns.add({})
    told = {one.name: one for one in columns.columns()}
    assert len(told) == 50
    assert len(told["many"].values) == 1001
    assert told["many"].values[-1] == OTHER
    assert (told["many"].codes == 1000).sum() == 100
    assert told["many"].codes[-1] == -1
    assert told["name 5"].codes[:7].tolist() == [-1] * 5 + [0, -1]


def test_what_is_known_of_a_pair_is_its_slices() -> None:
    pair = Pair(
        "r", unix_ms=3 * 3_600_000 + 5, served_by="mesh", max_results=20, filter="", slices={"x": "y"}
    )
    assert slices_of(pair) == {
        "served_by": "mesh",
        "filtered": "no",
        "max_results": "20",
        "hour": "03",
        "x": "y",
    }
    assert slices_of(Pair("r")) == {}
