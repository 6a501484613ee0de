from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from meshfold.compat.mesh.order import best


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(0, 45), st.randoms(use_true_random=False))
def test_the_best_are_in_order_and_ties_go_to_the_smaller_number(
    scores: list[int], k: int, random: object
) -> None:
    numbers = list(range(100, 100 + len(scores)))
    random.shuffle(numbers)  # type: ignore[attr-defined]
    places = best(np.array(numbers, np.int64), np.array(scores, np.float32), k)
    wanted = sorted(range(len(scores)), key=lambda i: (-scores[i], numbers[i]))[:k]
    assert places.tolist() == wanted
