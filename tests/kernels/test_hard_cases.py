from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import cache
from operator import attrgetter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.kernels import native
from meshfold.kernels.eligible import eligible, eligible_reference
from meshfold.kernels.filter_program import FilterTensors, Op
from meshfold.kernels.quantize import quantize_reference
from meshfold.kernels.search import Found, search, search_reference
from tests.kernels.hard_cases import SEARCHES
from tests.kernels.hard_filters import INT64, KIND, TAGS, YEAR, match, no, random_filter
from tests.kernels.search_cases import HUGE, SearchCase, search_case

Mutation = Callable[[SearchCase], SearchCase]
LARGEST = float(np.finfo(np.float32).max)
LEVELS = [level for level in native.levels() if level != "reference"]


@cache
def case(name: str) -> SearchCase:
    return SEARCHES[name]()


def run(case: SearchCase) -> Found:
    return search(case.vectors, case.ivf, case.filter, case.programs, case.limits, case.k)


def run_reference(case: SearchCase) -> Found:
    return search_reference(case.vectors, case.ivf, case.filter, case.programs, case.limits, case.k)


def without_lists(case: SearchCase) -> SearchCase:
    """Values are told by Bloom rows and columns."""
    return replace(case, filter=replace(case.filter, lists=None))


@cache
def expected(name: str) -> Found:
    return run_reference(case(name))


def assert_equal(got: Found, wanted: Found) -> None:
    for field in fields(Found):
        left, right = getattr(got, field.name), getattr(wanted, field.name)
        assert left.dtype == right.dtype
        assert torch.equal(left, right), field.name


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def filled_memory() -> Iterator[None]:
    """torch.empty is full of NaN or of the largest integers."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        assert torch.empty(3).isnan().all()
        yield
    finally:
        torch.use_deterministic_algorithms(False)


class SlowFilter:
    """What items hold, as plain Python; sets of items are the bits of one integer."""

    def __init__(self, tensors: FilterTensors, items: int) -> None:
        self.everything = (1 << items) - 1
        self._held = [self._values(tensors, field, items) for field in range(len(tensors.columns))]

    @staticmethod
    def _values(tensors: FilterTensors, field: int, items: int) -> list[list[int]]:
        column, offsets = tensors.columns[field].tolist(), tensors.offsets[field].tolist()
        if offsets:
            return [column[offsets[i] : offsets[i + 1]] for i in range(items)]
        words = tensors.signature[:, field].flatten().tolist()
        return [[column[i]] if words[i // 64] >> i % 64 & 1 else [] for i in range(items)]

    def _where(self, bits: list[bool]) -> int:
        return int("0" + "".join("1" if bit else "0" for bit in reversed(bits)), 2)

    def passing(self, steps: list[list[int]], values: list[int]) -> int:
        stack: list[int] = []
        for op, a, b, c in steps:
            if op == Op.CONSTANT:
                stack.append(self.everything if a else 0)
            elif op in (Op.MATCH, Op.PLANE):
                wanted = set(values[b : b + c])
                stack.append(self._where([not wanted.isdisjoint(own) for own in self._held[a]]))
            elif op == Op.RANGE:
                low, high = values[b : b + 2]
                stack.append(self._where([any(low <= v <= high for v in own) for own in self._held[a]]))
            elif op == Op.EXISTS:
                stack.append(self._where([bool(own) for own in self._held[a]]))
            elif op == Op.NOT:
                stack.append(self.everything & ~stack.pop())
            elif op == Op.AND:
                stack.append(stack.pop() & stack.pop())
            elif op == Op.OR:
                stack.append(stack.pop() | stack.pop())
            elif op == Op.AT_LEAST:
                operands = [stack.pop() for _ in range(a)]
                stack.append(self._at_least(b, operands))
        (result,) = stack
        return result

    def _at_least(self, least: int, sets: list[int]) -> int:
        # reached[i]: items in at least i of the sets so far.
        reached = [self.everything] + [0] * max(least, len(sets))
        for members in sets:
            for i in range(len(reached) - 1, 0, -1):
                reached[i] |= reached[i - 1] & members
        return reached[max(least, 0)]


def slow_search(case: SearchCase) -> Found:
    """The docstring of kernels/search.py, one item after the other."""
    b, t, _ = case.vectors.shape
    n, c = case.ivf.codes.shape[0], case.ivf.offsets.numel() - 1
    of_items = SlowFilter(case.filter, n)
    counts = torch.zeros((2, b, t), dtype=torch.int64)
    found = Found(
        *(torch.full((b, t, case.k), -1), torch.zeros((b, t, case.k))),
        *(counts[0], counts[1], torch.zeros(b, dtype=torch.int64)),
    )
    for i in range(b):
        passing = of_items.passing(case.programs.steps[i].tolist(), case.programs.values[i].tolist())
        for position in {*case.programs.excluded[i].tolist()} - {-1}:
            passing &= ~(1 << position)
        size = min(n, 1024)
        found.sampled[i] = sum(passing >> (2 * s + 1) * n // (2 * size) & 1 for s in range(size))
        limits = case.limits
        budget, probes, depth = (int(of[i]) for of in (limits.budget, limits.probes, limits.depth))
        for j in range(t):
            chosen: list[int] = []
            for cluster in slow_order(case, i, j)[: min(probes, c)]:
                first, stop = case.ivf.offsets[cluster : cluster + 2].tolist()
                inside = passing >> first & ((1 << stop - first) - 1)
                chosen += [first + p for p, bit in enumerate(reversed(f"{inside:b}")) if bit == "1"]
                found.opened[i, j] += 1
                if len(chosen) >= budget:
                    break
            found.scored[i, j] = len(chosen)
            wanted = depth if limits.wanted is None else min(int(limits.wanted[i]), depth)
            size = max(depth, wanted * limits.rescored)
            pool = ordered(case, chosen, slow_scores(case, i, j, chosen))[:size]
            similarities = slow_similarities(case, i, j, pool)
            best = ordered(case, pool, similarities)[:depth]
            by_position = dict(zip(pool, similarities, strict=True))
            found.positions[i, j, : len(best)] = torch.tensor(best, dtype=torch.int64)
            found.similarities[i, j, : len(best)] = torch.tensor([float(by_position[p]) for p in best])
    return found


def ordered(case: SearchCase, positions: list[int], scores: list[np.float32]) -> list[int]:
    """Best first, ties to the smaller row."""
    of = dict(zip(positions, scores, strict=True))
    return sorted(positions, key=lambda position: (-float(of[position]), int(case.ivf.rows[position])))


def slow_scores(case: SearchCase, i: int, j: int, chosen: list[int]) -> list[np.float32]:
    query = quantize_reference(case.vectors[i, j])[0].numpy().astype(np.int64)
    scores = []
    for position in chosen:
        values = 32 * (case.ivf.codes[position].numpy().astype(np.int64) // 16) + 15
        with np.errstate(over="ignore"):
            scores.append(np.float32(np.float32(int(values @ query)) * case.ivf.units[position].numpy()))
    return scores


def slow_similarities(case: SearchCase, i: int, j: int, pool: list[int]) -> list[np.float32]:
    codes, residuals, unit = quantize_reference(case.vectors[i, j])
    query = 256 * codes.long() + residuals.long()
    similarities = []
    for position in pool:
        fine = 256 * case.ivf.codes[position].long() + case.ivf.residuals[position].long()
        exact = float(int(fine @ query)) * float(case.ivf.units[position]) * float(unit)
        similarities.append(np.float32(np.clip(exact, -LARGEST, LARGEST)))
    return similarities


def slow_order(case: SearchCase, i: int, j: int) -> list[int]:
    query = quantize_reference(case.vectors[i, j])[0].numpy().astype(np.int64)
    length = np.float32(np.sqrt(np.float64(query @ query)))
    scores = []
    for cluster in range(case.ivf.centroids.shape[0]):
        total = np.float32(int(case.ivf.centroids[cluster].numpy().astype(np.int64) @ query))
        with np.errstate(over="ignore"):
            near = np.float32(total * case.ivf.centroid_units[cluster].numpy())
        scores.append(float(near + np.float32(length * case.ivf.centroid_spreads[cluster].numpy())))
    return sorted(range(len(scores)), key=lambda cluster: (-scores[cluster], cluster))


@pytest.mark.parametrize("name", SEARCHES)
def test_the_reference_is_the_docstring_item_by_item(name: str) -> None:
    assert_equal(expected(name), slow_search(case(name)))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", SEARCHES)
def test_every_level_answers_as_the_reference(name: str, level: str) -> None:
    with native.forced(level):
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
            with native.forced(level), threads(count), filled_memory():
                got = eligible(drawn.filter, drawn.programs, wanted, n)
            assert torch.equal(got.bits, reference.bits)
            assert torch.equal(got.counts, reference.counts)
        with native.forced(level), threads(2):
            got = eligible(without_lists(drawn).filter, drawn.programs, wanted, n)
        assert torch.equal(got.bits, reference.bits)


@pytest.mark.parametrize("level", native.levels())
@pytest.mark.parametrize("name", SEARCHES)
def test_a_query_alone_is_answered_as_in_its_batch(name: str, level: str) -> None:
    whole = expected(name)
    with native.forced(level), threads(2):
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
    with native.forced(level), threads(2), ThreadPoolExecutor(4) as pool:
        for name, got in zip(names * 2, pool.map(run, map(case, names * 2)), strict=True):
            assert_equal(got, expected(name))


def step(*values: int) -> Mutation:
    """The program becomes this one step."""

    def mutate(case: SearchCase) -> SearchCase:
        case.programs.steps[0] = torch.tensor([list(values)] + [[0, 0, 0, 0]] * 2)
        return case

    return mutate


def entry(path: str, place: tuple[int, ...], value: int) -> Mutation:
    """An entry of a tensor, such as ivf.offsets, becomes another."""

    def mutate(case: SearchCase) -> SearchCase:
        attrgetter(path)(case)[place] = value
        return case

    return mutate


def cut(part: str, name: str, change: Callable[[Any], Any]) -> Mutation:
    """A tensor becomes another."""

    def mutate(case: SearchCase) -> SearchCase:
        was = getattr(case, part)
        return replace(case, **{part: replace(was, **{name: change(getattr(was, name))})})

    return mutate


def in_lists(name: str, change: Callable[[Any], Any]) -> Mutation:
    """A tensor of the posting lists becomes another, and one is asked for."""

    def mutate(case: SearchCase) -> SearchCase:
        case.programs.steps[0, 1] = torch.tensor([Op.MATCH, YEAR, 0, 1])
        case.programs.values[0, 0] = 1999
        case.programs.steps[0, 0] = torch.tensor([Op.EXISTS, YEAR, 0, 0])
        run(case)
        lists = case.filter.lists
        assert lists is not None
        return cut("filter", "lists", lambda was: replace(was, **{name: change(getattr(was, name))}))(case)

    return mutate


# Of 90 items, 3 steps, 2 values, 4 fields.
MALFORMED: dict[str, Mutation] = {
    "an unknown operation": step(99, 0, 0, 0),
    "a negative operation": step(-1, 0, 0, 0),
    "no step": step(0, 0, 0, 0),
    "and of nothing": step(Op.AND, 0, 0, 0),
    "not of nothing": step(Op.NOT, 0, 0, 0),
    "at least of nothing": step(Op.AT_LEAST, 3, 1, 0),
    "at least of a negative count": step(Op.AT_LEAST, -1, 1, 0),
    "at least of very many": step(Op.AT_LEAST, HUGE, 1, 0),
    "two sets left": entry("programs.steps", (0, 2, 0), Op.NOOP),
    **{
        f"{op.name}: field {field}": step(op, field, 0, 1)
        for op in (Op.MATCH, Op.PLANE, Op.RANGE, Op.EXISTS)
        for field in (-1, 4, HUGE)
    },
    **{
        f"{op.name}: {count} values from {first}": step(op, KIND, first, count)
        for op in (Op.MATCH, Op.PLANE)
        for first, count in (
            (-1, 1),
            (2, 1),
            (0, 3),
            (1, 2),
            (1, -1),
            (1, HUGE),
            (HUGE, 1),
            (INT64.max, INT64.max),
        )
    },
    **{f"RANGE: values from {first}": step(Op.RANGE, YEAR, first, 2) for first in (-1, 1, 2, INT64.max)},
    "a range over a field of many values": step(Op.RANGE, TAGS, 0, 2),
    "a row past the last": entry("programs.value_rows", (0, 0, 0), 10**6),
    "a negative row": entry("programs.value_rows", (0, 0, 0), -1),
    "a value without rows": cut("programs", "value_rows", lambda rows: rows[:, :, :0]),
    "an excluded item that does not exist": entry("programs.excluded", (0, 0), 90),
    "an excluded item far away": entry("programs.excluded", (0, 0), HUGE),
    "a negative depth": entry("limits.depth", (0,), -1),
    "a depth above k": entry("limits.depth", (0,), 21),
    "a negative budget": entry("limits.budget", (0,), -1),
    "negative probes": entry("limits.probes", (0,), -1),
    "a cluster that ends before it starts": entry("ivf.offsets", (1,), 61),
    "clusters that start late": entry("ivf.offsets", (0,), 1),
    "clusters that start early": entry("ivf.offsets", (0,), -1),
    "clusters of more items": entry("ivf.offsets", (3,), 91),
    "clusters of fewer items": entry("ivf.offsets", (3,), 89),
    "few bundles": cut("filter", "signature", lambda signature: signature[:0]),
    "few rows": cut("filter", "signature", lambda signature: signature[:, :3]),
    "a short column": cut("filter", "columns", lambda columns: [c[:80] for c in columns]),
    "short offsets": cut("filter", "offsets", lambda offsets: [o[:80] for o in offsets]),
    "columns of another type": cut("filter", "columns", lambda columns: [c.short() for c in columns]),
    "more columns than offsets": cut("filter", "columns", lambda columns: [*columns, columns[0]]),
    "lists of fewer fields": in_lists("fields", lambda fields: fields[:-1]),
    "lists that start early": in_lists("fields", lambda fields: fields - 99),
    "lists of values that are not there": in_lists("fields", lambda fields: fields + HUGE),
    "lists without an end": in_lists("offsets", lambda offsets: offsets[:-1]),
    "lists that start before the postings": in_lists("offsets", lambda offsets: offsets - HUGE),
    "lists that end after the postings": in_lists("offsets", lambda offsets: offsets + HUGE),
    "lists of items before the first": in_lists("positions", lambda positions: positions - 90),
    "lists of items after the last": in_lists("positions", lambda positions: positions + 90),
    "lists of long positions": in_lists("positions", lambda positions: positions.long()),
    "codes with gaps": cut("ivf", "codes", lambda codes: codes.repeat(2, 2)[:90, :16]),
    "residuals of fewer items": cut("ivf", "residuals", lambda residuals: residuals[:80]),
    "coarse codes of fewer items": cut("ivf", "coarse", lambda coarse: coarse[:80]),
    "coarse codes of fewer dimensions": cut("ivf", "coarse", lambda coarse: coarse[:, :7].contiguous()),
    "a pool of nobody": cut("limits", "rescored", lambda rescored: 0),
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", MALFORMED)
def test_what_does_not_fit_is_refused(name: str, level: str) -> None:
    right = search_case(
        [40, 20, 30], filters=[no(no(match(KIND, 1, 2)))], excluded=[[5]], depth=[20], budget=[10], k=20
    )
    right.programs.steps[0] = torch.tensor(
        [[Op.PLANE, KIND, 0, 2], [Op.EXISTS, YEAR, 0, 0], [Op.AND, 0, 0, 0]]
    )
    with native.forced(level):
        run(right)
        with pytest.raises(ValueError, match=r"\w"):
            run(MALFORMED[name](right))


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
        with native.forced(level), threads(int(rng.integers(1, 3))):
            assert_equal(run(drawn), right)
