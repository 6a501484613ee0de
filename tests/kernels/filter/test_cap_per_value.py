from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.kernels.filter.cap_per_value import cap_per_value


def stays(rows: list[list[int]], limit: int) -> list[bool]:
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    values = torch.tensor([v for row in rows for v in row], dtype=torch.int64)
    return cap_per_value(lengths, values, limit).tolist()


@settings(deadline=None, max_examples=200)
@given(st.lists(st.lists(st.integers(-2, 3), max_size=3, unique=True), max_size=20), st.integers(1, 4))
def test_it_is_the_greedy_choice_from_the_best_down(rows: list[list[int]], limit: int) -> None:
    kept: list[list[int]] = []
    expected = []
    for row in rows:
        ok = all(sum(value in other for other in kept) < limit for value in row)
        expected.append(ok)
        kept += [row] * ok
    assert stays(rows, limit) == expected
    counts = Counter(value for row in kept for value in row)
    assert not counts or max(counts.values()) <= limit


def test_a_result_left_out_uses_up_nothing() -> None:
    # [1, 2] is left out because of 1, so that 2 is still free.
    assert stays([[1], [1, 2], [2]], 1) == [True, False, True]


def test_results_without_a_value_always_stay() -> None:
    assert stays([[], [5], [], [5], []], 1) == [True, True, True, False, True]
    assert stays([], 1) == []


def test_lengths_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match=r"values must be \[3\] int64, got \[1\]"):
        cap_per_value(torch.tensor([1, 2]), torch.tensor([4]), 1)
    with pytest.raises(ValueError, match="lengths must be"):
        cap_per_value(torch.tensor([1], dtype=torch.int32), torch.tensor([4]), 1)
