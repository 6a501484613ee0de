import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.kernels.native import library
from meshfold.kernels.search.ranked import _ranked, ranked


@pytest.fixture(autouse=True, params=library.levels(), scope="module")
def _level(request: pytest.FixtureRequest) -> Iterator[None]:
    with library.forced(request.param):
        yield


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    m=st.sampled_from([1, 2, 7, 8, 63, 127, 128, 129, 1000]),
    distinct=st.sampled_from([1, 3, 10_000]),
    nothing=st.sampled_from([0.0, 0.3, 1.0]),
    k=st.sampled_from([1, 5, 100, 400, 2000]),
    wanted=st.sampled_from([None, (0, 1), (5, 100), (3000, 6)]),
)
def test_it_is_sorting_by_score_then_row(
    seed: int, m: int, distinct: int, nothing: float, k: int, wanted: tuple[int, int] | None
) -> None:
    random = np.random.default_rng(seed)
    n = 3 * m
    rows = random.permutation(n).astype(np.int32)
    scores = (random.integers(-distinct, distinct + 1, (2, m)) / 7).astype(np.float32)
    scores[scores == 0] = random.choice(np.array([0.0, -0.0], np.float32), int((scores == 0).sum()))
    positions = np.stack([random.permutation(n)[:m] for _ in range(2)])
    positions[random.random((2, m)) < nothing] = -1
    given_wanted = None if wanted is None else torch.tensor(wanted)
    found = ranked(
        torch.from_numpy(scores), torch.from_numpy(positions), torch.from_numpy(rows), k, given_wanted
    )
    for i in range(2):
        real = [j for j in range(m) if positions[i, j] >= 0]
        most = k if wanted is None else min(k, wanted[i])
        order = sorted(real, key=lambda j: (-scores[i, j], rows[positions[i, j]]))[:most]
        left = min(k, m) - len(order)
        assert found.places[i].tolist() == [*order, *[0] * left]
        assert found.positions[i].tolist() == [*positions[i, order].tolist(), *[-1] * left]


def test_the_largest_scores_come_first() -> None:
    scores = torch.tensor([[0.0, math.inf, -math.inf, 3.4e38, -3.4e38, 1e-45]])
    found = ranked(scores, torch.arange(6).unsqueeze(0), torch.arange(6, dtype=torch.int32), 6)
    assert found.positions.tolist() == [[1, 3, 5, 0, 4, 2]]


def test_what_does_not_fit_is_refused() -> None:
    scores, positions, rows = torch.zeros(1, 3), torch.tensor([[0, 1, 2]]), torch.arange(2, dtype=torch.int32)
    with pytest.raises(ValueError, match="positions hold 2, of 2"):
        ranked(scores, positions, rows, 1)
    with pytest.raises(ValueError, match=r"scores must be \[1, 3\] float32, got \[1, 2\]"):
        ranked(scores[:, :2], positions, rows, 1)
    with pytest.raises(ValueError, match=r"max_results must be \[1\] int64, got \[2\]"):
        ranked(scores, positions, rows, 1, torch.tensor([1, 1]))


def test_the_operator_is_what_it_is_registered_as() -> None:
    args = (
        torch.zeros(1, 3),
        torch.tensor([[0, -1, 2]]),
        torch.arange(3, dtype=torch.int32),
        torch.tensor([1]),
        2,
    )
    torch.library.opcheck(_ranked.overload, args, test_utils=("test_schema", "test_faketensor"))
