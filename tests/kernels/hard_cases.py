"""Inputs on which kernels go wrong: every backend must answer them with the same ids, order and integers.

A case is plain tensors, made when it is asked for: SEARCHES names each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from meshfold.kernels.filter.bundles import pack
from meshfold.kernels.filter.steps import Op
from meshfold.kernels.search.coarse import pack_coarse
from meshfold.kernels.vectors.quantize import quantize_reference
from tests.kernels.far_cases import FAR_ITEMS, past_two_gigabytes
from tests.kernels.hard_filters import (
    ALL,
    GENRES,
    INT64,
    KIND,
    NONE,
    RARE,
    TAGS,
    VALUES,
    YEAR,
    Filter,
    at_least,
    between,
    both,
    either,
    exists,
    match,
    no,
    random_filter,
    value_rows,
)
from tests.kernels.search_cases import HUGE, SearchCase, search_case


def mixed_batch(b: int, tasks: int, d: int, seed: int) -> SearchCase:
    """Queries that share nothing: each with a filter, exclusions, a budget, probes and a depth of its own."""
    rng = np.random.default_rng(seed)
    sizes = [int(s) for s in rng.choice([0, 1, 3, 40, 130], 24)]
    n = sum(sizes)
    return search_case(
        sizes,
        d,
        tasks=tasks,
        filters=[random_filter(rng, int(rng.integers(0, 4))) for _ in range(b)],
        excluded=[rng.integers(-1, n, rng.integers(0, 30)).tolist() for _ in range(b)],
        budget=[int(rng.choice([0, 1, 2, 30, n // 2, n, HUGE])) for _ in range(b)],
        probes=[int(rng.choice([1, 2, 5, 23, 24, HUGE])) for _ in range(b)],
        depth=[int(rng.choice([1, 2, 10, n, n + 3])) for _ in range(b)],
        rescored=int(rng.integers(1, 4)),
        wanted=[int(rng.choice([0, 1, 5, n])) for _ in range(b)] if seed % 2 else None,
        k=n + 5,
        codes=str(rng.choice(["few", "any", "ends"])),
        seed=seed,
    )


def equal_scores() -> SearchCase:
    """More items of one score than are wanted, over several clusters of one score: rows alone decide."""
    case = search_case([30, 0, 700, 513, 30], budget=[1200], depth=[1, 30, 600], filters=[ALL] * 3)
    case.ivf.codes.fill_(1)
    case.ivf.residuals.fill_(3)
    case.ivf.scales.fill_(0.5)
    case.ivf.centroids.fill_(1)
    case.ivf.centroid_scales.fill_(1)
    case.ivf.centroid_spreads.fill_(0)
    return case


def zeros_of_both_signs() -> SearchCase:
    """Scores of +0 and -0, which tie: vectors so short that their scale is 0 keep their codes."""
    case = search_case([200, 100], depth=[7, 250], filters=[ALL, ALL], budget=[HUGE], codes="any")
    case.ivf.scales.fill_(0)
    return case


def rounded_totals() -> SearchCase:
    """Totals of coarse scores past 2^29, where float32 rounds to a multiple of 64, to even: neighbours tie, and rows
    decide who is in the pool; then totals past 2^53 / 2^24, where similarities do."""
    d = 20_000
    case = search_case([90, 60], d, depth=[40], budget=[HUGE], rescored=2)
    case.vectors.fill_(127)
    case.vectors[..., -9:] = 1
    case.ivf.codes.fill_(127)
    case.ivf.scales.fill_(1)
    for item in range(150):
        case.ivf.codes[item, d - item % 10 :] = 111
        case.ivf.residuals[item, : item % 7] = 1
    return case


def largest_totals(d: int, depth: int = 12) -> SearchCase:
    """Totals of every sign that the dimension can give, where int32 holds them and where it does not. depth: of 12
    items, all of which go on without a coarse score where it is not less than half of them."""
    ends = torch.tensor([127, -127, -128], dtype=torch.int8).unsqueeze(1)
    case = search_case([2, 2, 0, 8], d, tasks=3, depth=[depth], budget=[HUGE if depth < 12 else 9])
    case.vectors.copy_(ends)
    case.ivf.codes.copy_(ends.repeat(4, 1))
    case.ivf.residuals.copy_(ends[[2, 0, 1]].repeat(4, 1))
    case.ivf.codes[6:, -1] = 0
    case.ivf.centroids.copy_(ends[[0, 1, 2, 1]])
    return case


def clusters_that_roundings_order() -> SearchCase:
    """Clusters whose scores are one sum but for its roundings: a step that rounds otherwise opens others."""
    c = 700
    budgets = [1, 2, 5, *range(20, 700, 40)]
    case = search_case(
        [1, 2] * (c // 2), 24, filters=[ALL] * len(budgets), budget=budgets, depth=[1100], codes="any"
    )
    case.vectors.copy_(case.vectors[:1].clone())
    query = quantize_reference(case.vectors[0]).codes
    case.ivf.centroids.copy_(query)
    square = query.double().square().sum()
    scales = torch.rand(c, generator=torch.Generator().manual_seed(0)) + 0.5
    # Halfway between two float32 numbers, where the least error decides which it becomes.
    aim = 2 * square.float()
    halfway = (aim.double() + torch.nextafter(aim, torch.tensor(torch.inf)).double()) / 2
    case.ivf.centroid_scales.copy_(scales)
    case.ivf.centroid_spreads.copy_((halfway - square * scales.double()) / square.sqrt())
    return case


def infinite_scores() -> SearchCase:
    """Scores past float32, which tie as infinities of either sign."""
    case = search_case([90, 0, 60, 80], 64, filters=[ALL] * 3, depth=[0, 5, 200], budget=[100], codes="ends")
    case.ivf.scales[::3] = 3e37
    case.ivf.centroid_scales.fill_(3e37)
    return case


def one_query_of_zeros() -> SearchCase:
    case = search_case([40, 60, 1], tasks=2, filters=[ALL, ALL], depth=[9], codes="any")
    case.vectors[0] = 0
    case.vectors[1, 1] = 0
    case.ivf.codes[::3] = 0
    case.ivf.centroids[1] = 0
    return case


def exactly_k_eligible(k: int) -> SearchCase:
    """As many items pass as are wanted, spread over all clusters; the rest is excluded one by one."""
    sizes = [64, 1, 0, 511, 513, 200]
    n = sum(sizes)
    kept = np.linspace(0, n - 1, k).astype(int).tolist()
    excluded = [p for p in range(n) if p not in set(kept)]
    return search_case(sizes, excluded=[excluded + excluded[:50] + [-1] * 9], budget=[k], depth=[k], k=k + 2)


def few_pass_among_many() -> SearchCase:
    """3 of 6,000 items pass, where none of the sample does."""
    sizes = [400] * 15
    case = search_case(
        sizes, 32, filters=[match(KIND, 2)] * 3, budget=[1, 3, 100], depth=[1, 3, 10], codes="any"
    )
    held = torch.ones(6000, dtype=torch.int64)
    # The sample takes positions 2, 8, 14, 20, ...
    held[[0, 1, 5999]] = 2
    case.filter.columns[KIND].copy_(held)
    for value in VALUES[KIND]:
        (row, _) = value_rows(KIND, value)
        case.filter.signature[:, row] = pack(held == value)
    return case


def lists_that_lead() -> list[Filter]:
    """Filters of which posting lists hold whatever passes, few or many of it, and some that only seem so."""
    one, other, year = match(TAGS, RARE[0]), match(TAGS, RARE[1]), match(YEAR, RARE[0], RARE[2])
    few, many = match(TAGS, *RARE[:7]), match(TAGS, *RARE)
    return [
        *(one, year, few, many, match(TAGS, RARE[3], 77), match(TAGS, 77), match(YEAR, 77, -(2**40))),
        *(
            both(one, other),
            both(one, ALL),
            both(NONE, many),
            both(match(TAGS, 0), many),
            both(many, no(few)),
        ),
        *(either(one, year), either(few, one), either(many, match(YEAR, *RARE)), either(one, NONE)),
        *(
            both(either(one, other), between(YEAR, 0, 1020)),
            either(both(many, exists(YEAR)), both(one, year)),
        ),
        *(both(both(exists(KIND), many), match(KIND, 1, 2)), both(many, at_least(1, one, other, year))),
        *(
            no(no(many)),
            no(many),
            either(one, match(KIND, 1)),
            at_least(2, one, many),
            both(many, no(match(TAGS, 0))),
        ),
    ]


def led_by_lists(budget: Sequence[int], depth: Sequence[int], probes: Sequence[int] = (HUGE,)) -> SearchCase:
    """Of every fourth query a third of the items is excluded."""
    filters = lists_that_lead()
    sizes = [700, 1, 0, 2000, 1300, 3001]
    return search_case(
        sizes,
        tasks=2,
        filters=filters,
        excluded=[[*range(i, sum(sizes), 3)] if i % 4 == 3 else [] for i in range(len(filters))],
        budget=budget,
        probes=probes,
        depth=depth,
        rare=True,
    )


def deep_stack() -> SearchCase:
    """A program that pushes 200 sets before the first is taken off, and one of 2,000 steps."""
    terms = [random_filter(np.random.default_rng(i), 0) for i in range(200)]
    right: Filter = tuple(step for term in terms for step in term) + ((Op.OR, 0, 0, ()),) * 199
    left: Filter = terms[0]
    for i in range(666):
        left = (*left, *terms[i % 200], (Op.OR if i % 3 else Op.AND, 0, 0, ()), (Op.NOT, 0, 0, ()))
    return search_case([300, 400], filters=[right, left, at_least(3, *terms)], depth=[700])


_SEARCHES: dict[str, Callable[[], SearchCase]] = {
    "equal scores": equal_scores,
    "zeros of both signs": zeros_of_both_signs,
    "rounded totals": rounded_totals,
    "clusters that roundings order": clusters_that_roundings_order,
    "infinite scores": infinite_scores,
    **{
        f"largest totals, D = {d}": partial(largest_totals, d)
        for d in (768, 32_768, 32_769, 65_536, 65_537, 140_000)
    },
    **{f"largest coarse totals, D = {d}": partial(largest_totals, d, 1) for d in (63, 127, 128, 129, 32_769)},
    # From one to seven query vectors open a cluster, of which a few are scored together.
    **{
        f"shared clusters, D = {d}": partial(
            search_case,
            [100, 130, 3, 90, 140, 128, 64],
            d,
            filters=[ALL] * 7,
            probes=[1, 2, 3, 4, 5, 6, 7],
            budget=[HUGE],
            depth=[9, 30],
            codes="any",
        )
        for d in (1, 63, 64, 127, 128, 129, 255, 256, 300)
    },
    "a query of zeros": one_query_of_zeros,
    "only zeros": partial(search_case, [20, 0, 600], codes="zero", depth=[500], budget=[30]),
    "one item": partial(search_case, [1], filters=[ALL, NONE, match(YEAR, 7)], depth=[1], k=3),
    "one item after empty clusters": partial(search_case, [0, 0, 1], budget=[1], depth=[1]),
    "empty clusters": partial(
        search_case, [0, 0, 5, 0, 900, 0, 0, 3, 0], budget=[0, 1, 4, 6], filters=[ALL] * 4
    ),
    "no item": partial(search_case, [0, 0], filters=[ALL, NONE], depth=[3]),
    "nothing passes": partial(
        search_case, [600, 700], filters=[NONE, no(ALL), both(exists(TAGS), no(exists(TAGS)))]
    ),
    "everything passes": partial(search_case, [600, 700], filters=[ALL, exists(KIND), no(NONE)]),
    "everything is excluded": partial(search_case, [512], excluded=[[*range(512), *range(100)]]),
    "few pass among many": few_pass_among_many,
    "a deep stack": deep_stack,
    "posting lists, all scored": partial(led_by_lists, [7002], [60]),
    "posting lists, few scored": partial(led_by_lists, [1, 5, 20, 60], [3, 60]),
    "posting lists, few clusters": partial(led_by_lists, [500], [60], [1, 2, 6]),
    "budgets": partial(
        search_case,
        [70, 0, 90, 700, 3, 137],
        filters=[match(GENRES, 1, 2)] * 9,
        budget=[0, 1, 2, 3, 300, 400, 500, 1000, int(INT64.max)],
        depth=[1000],
    ),
    "probes": partial(
        search_case,
        [70, 0, 90, 700, 3, 137],
        filters=[either(match(GENRES, 1), match(TAGS, -1))] * 8,
        probes=[0, 1, 2, 3, 5, 6, 7, int(INT64.max)],
        budget=[1000],
        depth=[1000],
    ),
    "depths": partial(
        search_case,
        [400, 313, 287],
        filters=[ALL] * 9,
        budget=[900],
        depth=[0, 1, 2, 63, 64, 65, 999, 1000, 1001],
    ),
    "a large cluster": partial(
        search_case,
        [9, 20_000, 11],
        8,
        filters=[ALL, match(YEAR, 1999)],
        depth=[3000],
        budget=[5000],
        codes="any",
    ),
    "many small clusters": partial(
        search_case, [3, 0, 1, 2] * 500, 24, tasks=3, filters=[ALL, match(TAGS, 0)], budget=[200], depth=[150]
    ),
    "past 2 GiB of codes": past_two_gigabytes,
    "a batch of 33": partial(mixed_batch, 33, 2, 40, seed=1),
    "five tasks": partial(mixed_batch, 4, 5, 17, seed=2),
    **{f"{k} eligible": partial(exactly_k_eligible, k) for k in (1, 2, 64, 500)},
    **{
        f"D = {d}, {codes} codes": partial(
            search_case,
            [70, 1, 0, 300],
            d,
            tasks=2,
            filters=[ALL, match(TAGS, 0)],
            budget=[200],
            depth=[200],
            codes=codes,
        )
        for d in (1, 2, 15, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 768)
        for codes in ("any", "ends")
    },
    **{
        f"N = {n}": partial(
            search_case, [n // 3, n - n // 3], filters=[ALL, no(match(TAGS, 1))], budget=[n], depth=[n]
        )
        for n in (2, 63, 64, 65, 511, 512, 513, 1000, 1023, 1024, 1025, 1537)
    },
    "what stands where an item has no value": partial(
        search_case,
        [300, 250],
        filters=[*(f(match(YEAR, v)) for v in VALUES[YEAR] for f in (no, tuple)), between(YEAR, 1999, 2001)],
        depth=[550],
        budget=[550],
    ),
    **{
        f"filter {seed}": partial(
            search_case,
            [200, 0, 313, 90],
            filters=[random_filter(np.random.default_rng(seed * 10 + i), 3) for i in range(10)],
            budget=[150],
            depth=[400],
        )
        for seed in range(8)
    },
}


def _packed(make: Callable[[], SearchCase]) -> SearchCase:
    """With coarse codes of what the codes have become."""
    case = make()
    if case.ivf.codes.shape[0] < FAR_ITEMS:
        case.ivf.coarse.copy_(pack_coarse(case.ivf.codes))
    return case


SEARCHES = {name: partial(_packed, make) for name, make in _SEARCHES.items()}
