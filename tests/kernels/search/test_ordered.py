import itertools
import math
import struct

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.kernels.search.ordered import NOTHING, best, keys

SCORES = [-math.inf, -3.4e38, -1.5, -1e-38, -1e-45, -0.0, 0.0, 1e-45, 1e-38, 1.5, 3.4e38, math.inf]
ROWS = [0, 1, 2, 2**31 - 1]
floats = st.floats(width=32, allow_nan=False) | st.sampled_from(SCORES)


def key(score: float, row: int) -> int:
    return int(keys(torch.tensor([score]), torch.tensor([row]))[0])


def test_every_pair_is_ordered_by_score_then_by_smaller_row() -> None:
    pairs = list(itertools.product(SCORES, ROWS))
    for (a, i), (b, j) in itertools.product(pairs, pairs):
        a32, b32 = (struct.unpack("f", struct.pack("f", x))[0] for x in (a, b))
        assert (key(a, i) > key(b, j)) == ((a32, -i) > (b32, -j)), (a, i, b, j)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(floats, st.integers(0, 2**31 - 1)), max_size=30, unique_by=lambda pair: pair[1]))
def test_sorting_keys_sorts_scores(pairs: list[tuple[float, int]]) -> None:
    scores = torch.tensor([score for score, _ in pairs], dtype=torch.float32)
    rows = torch.tensor([row for _, row in pairs], dtype=torch.int64)
    found = best(keys(scores, rows), len(pairs))[1].tolist()
    # sorted() compares -0.0 and 0.0 as equal, which leaves the tie to the row.
    assert found == sorted(range(len(pairs)), key=lambda i: (-scores[i].item(), pairs[i][1]))


def test_nothing_is_below_every_score() -> None:
    assert all(key(score, row) > NOTHING for score in SCORES for row in ROWS)


def test_the_best_are_as_many_as_there_are() -> None:
    values, indices = best(torch.tensor([[3, NOTHING, 9], [NOTHING, NOTHING, -5]]), 5)
    assert values.tolist() == [[9, 3, NOTHING], [-5, NOTHING, NOTHING]]
    assert indices[0].tolist() == [2, 0, 1]
    assert best(torch.empty((2, 0), dtype=torch.int64), 4)[0].shape == (2, 0)
    assert best(torch.tensor([4, 6, 5]), 2)[1].tolist() == [1, 2]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    n=st.sampled_from([1, 7, 511, 512, 3000]),
    spread=st.sampled_from([2, 2**20, 2**63]),
    k=st.sampled_from([1, 5, 600, 5000]),
)
def test_of_equal_keys_the_first_comes_first(seed: int, n: int, spread: int, k: int) -> None:
    random = np.random.default_rng(seed)
    drawn = random.integers(-spread, spread - 1, (2, 2, n), endpoint=True)
    drawn[random.random(drawn.shape) < 0.2] = NOTHING
    values, indices = best(torch.from_numpy(drawn), k)
    for i, j in itertools.product(range(2), range(2)):
        expected = sorted(range(n), key=lambda p: (-int(drawn[i, j, p]), p))[:k]
        assert indices[i, j].tolist() == expected
        assert values[i, j].tolist() == drawn[i, j, expected].tolist()
