"""Random items and filters, and whom the filters pass by plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from hypothesis import strategies as st

from meshfold.kernels.filter.bundles import pack
from meshfold.kernels.filter.steps import FilterBatch, FilterTensors, Op
from tests.kernels.hard_filters import posting_lists

INT64, INT32 = np.iinfo(np.int64), np.iinfo(np.int32)
SIZES = (0, 1, 63, 64, 65, 511, 512, 513, 1000, 1537)
TAGS, YEAR, CODE, KIND, GENRES = range(5)
ENDS = [int(INT64.min), -(2**31) - 1, int(INT32.min), -1, 0, 1, 7, int(INT32.max), 2**31, int(INT64.max)]
DOMAINS: tuple[list[int], ...] = (ENDS, ENDS, list(range(300)), list(range(6)), ENDS[2:8])
MANY = (True, False, False, False, True)
WIDTHS = (torch.int64, torch.int64, torch.int32, torch.int32, torch.int32)
FIRST_PLANE, FIRST_BLOOM, BLOOM_ROWS, HASHES = 5, 11, 12, 2


@dataclass(frozen=True)
class Term:
    op: Op
    field: int = 0
    values: tuple[int, ...] = ()


@dataclass(frozen=True)
class Join:
    op: Op
    operands: tuple[Tree, ...]
    least: int = 0


Tree = Term | Join


def rows_of(field: int, value: int) -> list[int]:
    """Few Bloom rows, so that they lie about many items."""
    if field == KIND:
        return [FIRST_PLANE + value] * HASHES
    seed = abs(value * 31 + field * 7)
    return [FIRST_BLOOM + seed % BLOOM_ROWS, FIRST_BLOOM + seed // BLOOM_ROWS % BLOOM_ROWS]


@dataclass(frozen=True, eq=False)
class Items:
    n: int

    @cached_property
    def held(self) -> list[list[set[int]]]:
        """The values of each item, for each field."""
        rng = np.random.default_rng(self.n)

        def draw(field: int) -> set[int]:
            most = int(rng.integers(0, 4)) if MANY[field] else int(rng.random() < 0.8)
            return {DOMAINS[field][i] for i in rng.integers(0, len(DOMAINS[field]), most)}

        return [[draw(field) for _ in range(self.n)] for field in range(len(DOMAINS))]

    @cached_property
    def tensors(self) -> FilterTensors:
        bits = torch.zeros((FIRST_BLOOM + BLOOM_ROWS, self.n), dtype=torch.bool)
        columns, offsets = [], []
        for field, items in enumerate(self.held):
            for item, values in enumerate(items):
                bits[field, item] = bool(values)
                for value in values:
                    bits[rows_of(field, value), item] = True
            flat = [sorted(values) if MANY[field] else list(values) or [0] for values in items]
            columns.append(torch.tensor([v for values in flat for v in values], dtype=WIDTHS[field]))
            ends = torch.tensor([0, *map(len, flat)]).cumsum(0)
            offsets.append(ends if MANY[field] else ends[:0])
        # Lists tell who holds a tag or a code, Bloom rows and columns who has a year.
        lists = posting_lists([held if f in (TAGS, CODE) else [] for f, held in enumerate(self.by_item)])
        return FilterTensors(torch.stack([pack(row) for row in bits], 1), columns, offsets, lists)

    @property
    def by_item(self) -> list[list[list[int]]]:
        return [[list(values) for values in items] for items in self.held]

    def passing(self, tree: Tree) -> list[bool]:
        """Plain Python."""
        if isinstance(tree, Join):
            sides = [self.passing(operand) for operand in tree.operands]
            if tree.op == Op.NOT:
                return [not passes for passes in sides[0]]
            least = {Op.AND: 2, Op.OR: 1, Op.AT_LEAST: tree.least}[tree.op]
            return [sum(side[i] for side in sides) >= least for i in range(self.n)]
        if tree.op == Op.CONSTANT:
            return [bool(tree.field)] * self.n
        held = self.held[tree.field]
        if tree.op == Op.EXISTS:
            return [bool(values) for values in held]
        if tree.op == Op.RANGE:
            low, high = tree.values
            return [any(low <= v <= high for v in values) for values in held]
        wanted = set(tree.values)
        return [not wanted.isdisjoint(values) for values in held]


items_of = cache(Items)


def programs_of(trees: Sequence[Tree], excluded: Sequence[Sequence[int]] = ()) -> FilterBatch:
    """As a batch is: padded to common sizes."""
    written = [write(tree) for tree in trees]
    most, values = max(len(w[0]) for w in written) + 1, max(len(w[1]) for w in written)
    left_out = [list(row) for row in excluded] or [[] for _ in trees]
    programs = FilterBatch(
        torch.zeros((len(trees), most, 4), dtype=torch.int64),
        torch.zeros((len(trees), values), dtype=torch.int64),
        torch.zeros((len(trees), values, HASHES), dtype=torch.int64),
        torch.full((len(trees), max(map(len, left_out))), -1),
    )
    for b, (steps, wanted, rows) in enumerate(written):
        programs.steps[b, : len(steps)] = torch.tensor(steps)
        programs.values[b, : len(wanted)] = torch.tensor(wanted, dtype=torch.int64)
        programs.value_rows[b, : len(rows)] = torch.tensor(rows, dtype=torch.int64).view(-1, HASHES)
        programs.excluded[b, : len(left_out[b])] = torch.tensor(left_out[b], dtype=torch.int64)
    return programs


def write(tree: Tree) -> tuple[list[list[int]], list[int], list[list[int]]]:
    """steps, values and value_rows."""
    steps: list[list[int]] = []
    values: list[int] = []
    rows: list[list[int]] = []
    rest: list[Tree | list[int]] = [tree]
    while rest:
        part = rest.pop()
        if isinstance(part, list):
            steps.append(part)
        elif isinstance(part, Join):
            counted = part.op == Op.AT_LEAST
            rest.append([part.op, len(part.operands) if counted else 0, part.least, 0])
            rest.extend(reversed(part.operands))
        else:
            bounds = part.op == Op.RANGE
            steps.append([part.op, part.field, len(values), len(part.values)])
            values += part.values
            rows += [[part.field] * HASHES if bounds else rows_of(part.field, v) for v in part.values]
    return steps, values, rows


@st.composite
def terms(draw: st.DrawFn) -> Term:
    op = draw(st.sampled_from([Op.MATCH, Op.MATCH, Op.RANGE, Op.PLANE, Op.EXISTS, Op.CONSTANT]))
    if op == Op.CONSTANT:
        return Term(op, draw(st.integers(0, 1)))
    if op == Op.EXISTS:
        return Term(op, draw(st.integers(0, 4)))
    if op == Op.PLANE:
        return Term(op, KIND, tuple(draw(st.lists(st.sampled_from(DOMAINS[KIND]), max_size=4))))
    if op == Op.RANGE:
        field = draw(st.sampled_from([YEAR, CODE, KIND]))
        bound = st.sampled_from(ENDS) | st.sampled_from(DOMAINS[field])
        return Term(op, field, (draw(bound), draw(bound)))
    field = draw(st.sampled_from([TAGS, YEAR, CODE, GENRES]))
    size = draw(st.sampled_from([0, 1, 1, 2, 4, 5, 40, 120]))
    value = st.sampled_from(DOMAINS[field]) | st.sampled_from(ENDS)
    return Term(op, field, tuple(draw(st.lists(value, min_size=size, max_size=size))))


def joined(parts: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    two, some = st.tuples(parts, parts), st.lists(parts, max_size=5).map(tuple)
    return st.one_of(
        st.builds(Join, st.sampled_from([Op.AND, Op.OR]), two),
        st.builds(Join, st.just(Op.NOT), st.tuples(parts)),
        st.builds(Join, st.just(Op.AT_LEAST), some, st.integers(-1, 6)),
    )


TREES: st.SearchStrategy[Tree] = st.recursive(terms(), joined, max_leaves=12)


def nested(depth: int) -> Tree:
    """Every AND and OR on the right side of the other."""
    tree: Tree = Term(Op.EXISTS, KIND)
    for i in range(depth):
        tree = Join(Op.AND if i % 2 else Op.OR, (Term(Op.MATCH, CODE, (i % 300,)), tree))
    return tree
