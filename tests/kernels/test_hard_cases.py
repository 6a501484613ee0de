from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.kernels.filter.eligible import eligible, eligible_reference
from meshfold.kernels.native import library
from meshfold.kernels.search.tensors import Found
from tests.kernels.backends import LEVELS, filled_memory, threads
from tests.kernels.hard_cases import SEARCHES
from tests.kernels.hard_filters import random_filter
from tests.kernels.search_cases import (
    SearchCase,
    assert_equal,
    run,
    run_reference,
    search_case,
    without_lists,
)
from tests.kernels.slow_search import slow_search


@cache
def case(name: str) -> SearchCase:
    return SEARCHES[name]()


@cache
def expected(name: str) -> Found:
    return run_reference(case(name))


@pytest.mark.parametrize("name", SEARCHES)
def test_the_reference_is_the_docstring_item_by_item(name: str) -> None:
    assert_equal(expected(name), slow_search(case(name)))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", SEARCHES)
def test_every_level_answers_as_the_reference(name: str, level: str) -> None:
    with library.forced(level):
        for count in (1, 2, 5):
            with threads(count):
                assert_equal(run(case(name)), expected(name))
                with filled_memory():
                    assert_equal(run(case(name)), expected(name))
        with threads(2):
            assert_equal(run(without_lists(case(name))), expected(name))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", SEARCHES)
def test_every_level_finds_the_same_eligible(name: str, level: str) -> None:
    drawn = case(name)
    b, n = drawn.vectors.shape[0], drawn.ivf.codes.shape[0]
    # All but every third query, then those.
    for wanted in (torch.arange(b) % 3 > 0, torch.arange(b) % 3 == 0):
        reference = eligible_reference(drawn.filter, drawn.programs, wanted, n)
        for count in (1, 2, 5):
            with library.forced(level), threads(count), filled_memory():
                got = eligible(drawn.filter, drawn.programs, wanted, n)
            assert torch.equal(got.bits, reference.bits)
            assert torch.equal(got.counts, reference.counts)
        with library.forced(level), threads(2):
            got = eligible(without_lists(drawn).filter, drawn.programs, wanted, n)
        assert torch.equal(got.bits, reference.bits)


@pytest.mark.parametrize("level", library.levels())
@pytest.mark.parametrize("name", SEARCHES)
def test_a_query_alone_is_answered_as_in_its_batch(name: str, level: str) -> None:
    whole = expected(name)
    with library.forced(level), threads(2):
        for i in range(case(name).vectors.shape[0]):
            one = case(name).of(i)
            row = slice(i, i + 1)
            wanted = Found(
                positions=whole.positions[row, :, : one.k],
                similarities=whole.similarities[row, :, : one.k],
                opened=whole.opened[row],
                scored=whole.scored[row],
                sampled=whole.sampled[row],
            )
            assert (whole.positions[row, :, one.k :] == -1).all()
            assert_equal(run(one), wanted)


@pytest.mark.parametrize("level", LEVELS)
def test_calls_from_several_threads_at_once_do_not_meet(level: str) -> None:
    names = [name for name in np.random.default_rng(0).permutation(list(SEARCHES)) if "2 GiB" not in name]
    with library.forced(level), threads(2), ThreadPoolExecutor(4) as pool:
        for name, got in zip(names * 2, pool.map(run, map(case, names * 2)), strict=True):
            assert_equal(got, expected(name))


@settings(deadline=None, max_examples=200)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.sampled_from([0, 0, 1, 2, 5, 30, 64, 600]), min_size=1, max_size=9),
    d=st.sampled_from([1, 3, 16, 64, 70]),
    tasks=st.integers(1, 3),
    rescored=st.integers(1, 4),
    wanted=st.none() | st.lists(st.integers(0, 800), min_size=1, max_size=3),
    depth=st.lists(st.integers(0, 700), min_size=1, max_size=4),
    budget=st.lists(st.integers(0, 900), min_size=1, max_size=3),
    probes=st.lists(st.integers(0, 10), min_size=1, max_size=3),
    codes=st.sampled_from(["few", "any", "ends", "zero"]),
)
def test_drawn_cases_are_answered_alike_by_all(
    seed: int,
    sizes: list[int],
    d: int,
    tasks: int,
    rescored: int,
    wanted: list[int] | None,
    depth: list[int],
    budget: list[int],
    probes: list[int],
    codes: str,
) -> None:
    rng = np.random.default_rng(seed)
    b = int(rng.integers(1, 6))
    drawn = search_case(
        sizes,
        d,
        tasks=tasks,
        filters=[random_filter(rng, int(rng.integers(0, 5))) for _ in range(b)],
        excluded=[rng.integers(-1, sum(sizes), rng.integers(0, 40)).tolist() for _ in range(b)],
        budget=budget,
        probes=probes,
        depth=depth,
        rescored=rescored,
        wanted=wanted,
        k=max(depth) + int(rng.integers(0, 3)),
        codes=codes,
        seed=seed,
    )
    right = run_reference(drawn)
    assert_equal(right, slow_search(drawn))
    for level in LEVELS:
        with library.forced(level), threads(int(rng.integers(1, 3))):
            assert_equal(run(drawn), right)
