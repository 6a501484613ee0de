from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.kernels.native import library
from meshfold.kernels.search.merge import merge_tasks


@pytest.fixture(autouse=True, params=library.levels(), scope="module")
def _level(request: pytest.FixtureRequest) -> Iterator[None]:
    with library.forced(request.param):
        yield


@st.composite
def founds(draw: st.DrawFn) -> list[list[list[int]]]:
    """[B][T][K] positions, each once a task, -1 in any place."""
    b, t, k = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 6))
    pool = st.permutations(list(range(draw(st.integers(k, 12)))))
    tasks = []
    for _ in range(b * t):
        row = draw(pool)[:k]
        holes = draw(st.integers(0, 2**k - 1))
        tasks.append([-1 if holes >> i & 1 else p for i, p in enumerate(row)])
    return [tasks[i * t : (i + 1) * t] for i in range(b)]


@settings(deadline=None, max_examples=300)
@given(founds())
def test_it_is_the_union_in_order_with_the_intersection_marked(found: list[list[list[int]]]) -> None:
    merged = merge_tasks(torch.tensor(found))
    unions = [sorted({p for task in tasks for p in task if p >= 0}) for tasks in found]
    longest = len(found[0]) * len(found[0][0])
    assert merged.positions.shape == merged.common.shape == (len(found), longest)
    for i, (tasks, union) in enumerate(zip(found, unions, strict=True)):
        assert merged.positions[i].tolist() == union + [-1] * (longest - len(union))
        common = set.intersection(*(set(task) - {-1} for task in tasks))
        marked = [p for p, c in zip(union, merged.common[i].tolist(), strict=False) if c]
        assert marked == sorted(common)
        assert not merged.common[i, len(union) :].any()


@pytest.mark.parametrize("tasks", [1, 3])
def test_nothing_found_gives_nothing(tasks: int) -> None:
    merged = merge_tasks(torch.full((2, tasks, 5), -1))
    assert merged.positions.tolist() == [[-1] * 5 * tasks] * 2
    assert not merged.common.any()


def test_more_tasks_than_candidates() -> None:
    merged = merge_tasks(torch.tensor([[[7], [7], [7]], [[1], [2], [1]], [[-1], [3], [3]]]))
    assert merged.positions.tolist() == [[7, -1, -1], [1, 2, -1], [3, -1, -1]]
    assert merged.common.tolist() == [[True, False, False], [False, False, False], [False, False, False]]


@pytest.mark.parametrize("k", [1, 600, 5000])
def test_large_lists_are_merged_as_small_ones_are(k: int) -> None:
    random = np.random.default_rng(k)
    found = np.stack([random.permutation(3 * k)[:k] * 2**18 for _ in range(6)]).reshape(2, 3, k)
    merged = merge_tasks(torch.from_numpy(found))
    for i in range(2):
        union = np.unique(found[i])
        assert merged.positions[i, : len(union)].tolist() == union.tolist()
        common = set.intersection(*(set(task) for task in found[i].tolist()))
        assert union[merged.common[i, : len(union)].numpy()].tolist() == sorted(common)
