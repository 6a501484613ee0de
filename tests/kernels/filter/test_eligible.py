from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.kernels.filter.bundles import ITEMS, cardinality, count, pack, unpack
from meshfold.kernels.filter.eligible import _eligible, eligible, eligible_reference
from meshfold.kernels.filter.steps import FilterBatch, FilterTensors, Op, PostingLists
from meshfold.kernels.native import library
from meshfold.kernels.search.coarse import pack_coarse
from meshfold.kernels.search.ivf_search import search
from meshfold.kernels.search.sample import sample_positions
from meshfold.kernels.search.tensors import IvfTensors, Limits
from tests.kernels.hard_filters import posting_lists
from tests.kernels.plain_filters import (
    CODE,
    INT64,
    KIND,
    SIZES,
    TAGS,
    TREES,
    YEAR,
    Items,
    Join,
    Term,
    Tree,
    items_of,
    nested,
    programs_of,
)


def check(items: Items, trees: Sequence[Tree], excluded: Sequence[Sequence[int]] = ()) -> None:
    """That who passes is who passes by plain Python, and that bits past the last item are 0."""
    programs = programs_of(trees, excluded)
    found = eligible(items.tensors, programs, torch.ones(len(trees), dtype=torch.bool), items.n)
    assert found.bits.shape == (len(trees), count(items.n), 8)
    for b, tree in enumerate(trees):
        expected = items.passing(tree)
        for position in excluded[b] if excluded else ():
            if position >= 0:
                expected[position] = False
        assert unpack(found.bits[b], items.n).tolist() == expected
        assert found.counts[b] == sum(expected)
    assert torch.equal(cardinality(found.bits), found.counts)


def check_search(items: Items, tree: Tree, excluded: Sequence[int]) -> None:
    """The same of a sample, which search asks in tables of its own, and of whom posting lists lead to."""
    n = items.n
    expected = [passes and p not in excluded for p, passes in enumerate(items.passing(tree))]
    check_found(items.tensors, programs_of([tree], [excluded]), n, expected)


def check_found(filter_: FilterTensors, programs: FilterBatch, n: int, expected: Sequence[bool]) -> None:
    """That a search for all items finds whom it is expected to."""
    empty = torch.zeros((1, 1), dtype=torch.int8)
    ivf = IvfTensors(
        empty,
        torch.ones(1),
        torch.ones(1),
        torch.tensor([0, n]),
        codes := empty.expand(n, -1).contiguous(),
        codes,
        torch.ones(n),
        torch.arange(n, dtype=torch.int32),
        pack_coarse(codes),
    )
    for probes in (0, 1):
        limits = Limits(torch.tensor([n + 1]), torch.tensor([probes]), torch.tensor([n]), 1)
        found = search(torch.zeros((1, 1, 1)), ivf, filter_, programs, limits, n)
        assert found.sampled.tolist() == [sum(expected[p] for p in sample_positions(n).tolist())]
    positions = sorted(p for p in found.positions.flatten().tolist() if p >= 0)
    assert positions == [p for p in range(n) if expected[p]]


@settings(deadline=None, max_examples=250, derandomize=True)
@given(st.sampled_from(SIZES), TREES, st.lists(st.integers(-3, 2000), max_size=5))
def test_random_filters_pass_whom_plain_python_passes(n: int, tree: Tree, excluded: list[int]) -> None:
    items = items_of(n)
    for level in library.levels():
        with library.forced(level):
            check(items, [tree], [[e for e in excluded if e < n]])
            if n:
                check_search(items, tree, [e for e in excluded if e < n])


def test_lists_lead_to_those_whom_rows_leave(level: str) -> None:
    """Of lists of few items: planes, Bloom rows and presence narrow them, negated or not, alone or one of several."""
    items = items_of(1537)
    code, tags = Term(Op.MATCH, CODE, (7, 9)), Term(Op.MATCH, TAGS, (7,))
    plane, planes, bloom = (
        Term(Op.PLANE, KIND, (3,)),
        Term(Op.PLANE, KIND, (1, 3, 5)),
        Term(Op.MATCH, YEAR, (7,)),
    )
    absent, none = Term(Op.EXISTS, YEAR), Term(Op.PLANE, KIND)
    for part in (plane, planes, bloom, absent, none, tags, Join(Op.OR, (tags, plane))):
        for other in (part, Join(Op.NOT, (part,))):
            for driver in (code, Join(Op.OR, (code, Term(Op.MATCH, CODE, (250,))))):
                both = Join(Op.AND, (driver, other))
                for tree in (
                    both,
                    Join(Op.AND, (both, planes)),
                    Join(Op.OR, (both, Term(Op.MATCH, CODE, (30,)))),
                ):
                    check_search(items, tree, [])
                    check_search(items, tree, list(range(0, items.n, 3)))


@pytest.mark.parametrize("n", [1024, 1025, 2047, 2048, 2049, 65_536, 1_000_003])
def test_those_of_the_sample_are_told_among_those_to_whom_lists_lead(n: int, level: str) -> None:
    """Every few of the sample, the first and the last of all, and whoever lies beside one of them."""
    sample = sample_positions(n)
    few = sample[:: max(1, 200 * len(sample) // n)] if n > 2049 else sample[[1, 200, 777, -2]]
    passes = torch.zeros(n, dtype=torch.bool)
    passes[torch.cat([few, few + 1, (few - 1).clamp(min=0), torch.tensor([0, n - 1])])] = True
    held = torch.nonzero(passes).squeeze(1)
    none = torch.empty(0, dtype=torch.int64)
    lists = PostingLists(torch.tensor([0, 1]), torch.tensor([5]), torch.tensor([0, len(held)]), held.int())
    filter_ = FilterTensors(pack(passes).unsqueeze(1), [torch.where(passes, 5, 6).int()], [none], lists)
    programs = FilterBatch(
        torch.tensor([[[Op.MATCH, 0, 0, 1]]]),
        torch.tensor([[5]]),
        torch.zeros((1, 1, 1), dtype=torch.int64),
        torch.tensor([[-1]]),
    )
    check_found(filter_, programs, n, passes.tolist())


@pytest.mark.parametrize("width", [torch.int32, torch.int64])
@pytest.mark.parametrize("wanted", [1, 12])
def test_a_term_alone_finds_few_and_many_among_bundles(level: str, width: torch.dtype, wanted: int) -> None:
    """Bloom rows, a plane and posting lists, over more bundles than are looked at together: rows lie about few items of
    most bundles, and about most items of some."""
    n, rng = 34_000, np.random.default_rng(0)
    lies = rng.random((2, n)) < np.where(np.arange(n) // ITEMS % 7 == 3, 0.9, 0.04)
    has, value = rng.random(n) < 0.9, rng.integers(12, 16, n)
    rare = rng.random(n) < 0.01
    value[rare] = rng.integers(0, 12, int(rare.sum()))
    passes = has & (value < wanted)
    signature = torch.stack(
        [pack(torch.from_numpy(row)) for row in (has, lies[0] | rare, lies[1] | rare, passes)], 1
    )
    column, none = torch.from_numpy(value).to(width), torch.empty(0, dtype=torch.int64)
    lists = posting_lists([[[int(v)] if held else [] for v, held in zip(value, has, strict=True)]])
    left_out = rng.choice(np.flatnonzero(passes), 9, replace=False).tolist()
    for op, rows, listed in ((Op.MATCH, [1, 2], None), (Op.PLANE, [3, 3], None), (Op.MATCH, [1, 2], lists)):
        filter_ = FilterTensors(signature, [column], [none], listed)
        for excluded in (left_out[:0], left_out):
            programs = FilterBatch(
                torch.tensor([[[op, 0, 0, wanted]]]),
                torch.arange(wanted).unsqueeze(0),
                torch.tensor([[rows] * wanted]),
                torch.tensor(excluded, dtype=torch.int64).view(1, -1),
            )
            expected = passes.copy()
            expected[excluded] = False
            found = eligible(filter_, programs, torch.tensor([True]), n)
            assert unpack(found.bits[0], n).tolist() == expected.tolist()
            assert found.counts.tolist() == [expected.sum()]


@pytest.mark.parametrize("negated", [False, True])
def test_long_lists_are_narrowed_by_rows(level: str, negated: bool) -> None:
    """By a plane, by two of them, and, where the list is shorter, by Bloom rows with the column behind."""
    n, rng = 40_000, np.random.default_rng(1)
    code, kind = np.full(n, 9), rng.integers(0, 3, n)
    code[rng.choice(n, 570, replace=False)] = np.repeat([7, 8], [500, 70])
    every, lies = np.ones(n, bool), rng.random((2, n)) < 0.5
    rows = [every, every, kind == 0, kind == 1, lies[0] | (kind == 0), lies[1] | (kind == 0)]
    codes = [[int(c)] for c in code]
    filter_ = FilterTensors(
        torch.stack([pack(torch.from_numpy(row)) for row in rows], 1),
        [torch.from_numpy(column).int() for column in (code, kind)],
        [torch.empty(0, dtype=torch.int64)] * 2,
        posting_lists([codes, []]),
    )
    for listed, op, kinds, kind_rows in (
        (7, Op.PLANE, [0], [[2, 2]]),
        (7, Op.PLANE, [0, 1], [[2, 2], [3, 3]]),
        (8, Op.MATCH, [0], [[4, 5]]),
    ):
        steps = [
            [Op.MATCH, 0, 0, 1],
            [op, 1, 1, len(kinds)],
            *([[Op.NOT, 0, 0, 0]] * negated),
            [Op.AND, 0, 0, 0],
        ]
        programs = FilterBatch(
            torch.tensor([steps]),
            torch.tensor([[listed, *kinds]]),
            torch.tensor([[[0, 0], *kind_rows]]),
            torch.empty((1, 0), dtype=torch.int64),
        )
        expected = (code == listed) & (np.isin(kind, kinds) != negated)
        check_found(filter_, programs, n, expected.tolist())


def test_each_query_of_a_batch_has_its_own_filter(level: str) -> None:
    items = items_of(1000)
    trees: list[Tree] = [
        Term(Op.MATCH, TAGS, (0, 7)),
        Join(Op.AND, (Term(Op.RANGE, YEAR, (0, int(INT64.max))), Term(Op.PLANE, KIND, (1,)))),
        Term(Op.CONSTANT, 1),
        Term(Op.CONSTANT, 0),
    ]
    check(items, trees, [[], [5, 5, 999], [0, 511, 512, 999, 0], [3]])


def test_who_is_not_wanted_is_asked_nothing(level: str) -> None:
    items = items_of(700)
    trees: list[Tree] = [Term(Op.CONSTANT, 1), Term(Op.EXISTS, YEAR), Term(Op.EXISTS, KIND)]
    found = eligible(items.tensors, programs_of(trees), torch.tensor([False, True, False]), items.n)
    assert found.counts.tolist() == [0, sum(items.passing(trees[1])), 0]
    assert not found.bits[0].any()
    assert not found.bits[2].any()


def test_a_column_of_one_value_says_nothing_of_items_without_the_field(level: str) -> None:
    """Their integer is 0, and Bloom rows may hold them."""
    for n in (64, 1000):
        for field in (YEAR, CODE):
            check(items_of(n), [Term(Op.MATCH, field, (0,)), Term(Op.RANGE, field, (-1, 1))])


@pytest.mark.parametrize("operands", [1, 2, 3, 64, 500])
def test_many_operands_are_counted(level: str, operands: int) -> None:
    rng = np.random.default_rng(operands)
    items = items_of(513)
    codes = [tuple(rng.integers(0, 300, 60).tolist()) for _ in range(operands)]
    parts: tuple[Tree, ...] = tuple(
        Term(Op.MATCH, CODE, c) if i % 2 else Term(Op.PLANE, KIND, (i % 6,)) for i, c in enumerate(codes)
    )
    for least in (0, 1, operands // 3, operands, operands + 1):
        check(items, [Join(Op.AT_LEAST, parts, least)])


def test_a_filter_may_list_ten_thousand_values(level: str) -> None:
    for values in (range(10_000), range(0, 10_000 * 10**12, 10**12)):
        for field in (CODE, YEAR, TAGS):
            check(items_of(600), [Join(Op.NOT, (Term(Op.MATCH, field, (*values, 7, 299)),))])


@pytest.mark.parametrize("leans_left", [True, False])
def test_chains_may_be_long(level: str, leans_left: bool) -> None:
    rng = np.random.default_rng(0)
    for op in (Op.AND, Op.OR):
        chain: Tree = Term(Op.EXISTS, KIND)
        for _ in range(300):
            part: Tree = Term(Op.RANGE, CODE, (0, int(rng.integers(0, 600))))
            part = part if op == Op.AND else Join(Op.NOT, (part,))
            chain = Join(op, (chain, part) if leans_left else (part, chain))
        check(items_of(65), [chain])


def test_filters_may_be_nested_deeply(level: str) -> None:
    check(items_of(513), [nested(300)])


def test_the_number_of_threads_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    n = 100 * 512 + 3
    members = torch.from_numpy(rng.random(n) < 0.3)
    tensors = FilterTensors(
        pack(members).unsqueeze(1), [torch.from_numpy(rng.integers(0, 100, n))], [torch.empty(0).long()]
    )
    programs = FilterBatch(
        torch.tensor([[[Op.RANGE, 0, 0, 2]]] * 3),
        torch.tensor([[0, 50], [20, 30], [99, 0]]),
        torch.zeros((3, 2, 1), dtype=torch.int64),
        torch.tensor([[-1], [7], [8]]),
    )
    wanted = torch.ones(3, dtype=torch.bool)
    expected = eligible_reference(tensors, programs, wanted, n)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found = eligible(tensors, programs, wanted, n)
            assert torch.equal(found.bits, expected.bits)
            assert torch.equal(found.counts, expected.counts)
    finally:
        torch.set_num_threads(before)


def test_the_operator_is_what_it_is_registered_as(level: str) -> None:
    tensors, programs = items_of(100).tensors, programs_of([Term(Op.EXISTS, YEAR), Term(Op.CONSTANT, 0)])
    args = (
        tensors.signature,
        list(tensors.columns),
        list(tensors.offsets),
        [] if tensors.lists is None else list(tensors.lists.tensors()),
        programs.steps,
        programs.values,
        programs.value_rows,
        programs.excluded,
        torch.tensor([True, False]),
        100,
    )
    torch.library.opcheck(_eligible.overload, args, test_utils=("test_schema", "test_faketensor"))
