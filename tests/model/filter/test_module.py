import numpy as np
import pytest
import torch
from torch import Tensor

from meshfold.kernels.filter.bundles import unpack
from meshfold.kernels.filter.steps import FilterBatch, PostingLists
from meshfold.model.data.catalog import Column
from meshfold.model.filter.expression import All, Any, AtLeast, Exists, Expression, Match, Not, Range
from meshfold.model.filter.index import layout_of, sign
from meshfold.model.filter.module import EligibilityFilter
from meshfold.model.filter.program import FilterCompiler
from meshfold.model.schema import Field, FieldKind, Schema

SCHEMA = Schema("s", (Field("year", FieldKind.INTEGER), Field("tags", FieldKind.INTEGERS)), ("t",))
NONE = torch.empty((1, 0), dtype=torch.int64)


class World:
    """N items of which a third lack a year and many are of year 7, and their filter."""

    def __init__(self, n: int) -> None:
        rng = np.random.default_rng(n)
        self.n = n
        years = np.where(rng.random(n) < 0.2, 7, rng.integers(0, 300, n))
        self.years = [[int(year)] if rng.random() < 0.7 else [] for year in years]
        self.tags = [sorted({*rng.integers(0, 6, rng.integers(0, 4)).tolist()}) for _ in range(n)]
        year = Column.of_integers(FieldKind.INTEGER, self.years)
        tags = Column.of_integers(FieldKind.INTEGERS, self.tags)
        layout = layout_of(SCHEMA, {"year": year, "tags": tags})
        self.compiler = FilterCompiler(SCHEMA, {}, layout)
        self.filter = EligibilityFilter(
            n,
            torch.from_numpy(sign(layout, [year, tags], np.arange(n))),
            [torch.tensor([y[0] if y else 0 for y in self.years]), torch.from_numpy(tags.values)],
            [torch.empty(0, dtype=torch.int64), torch.from_numpy(tags.offsets)],
            [False, False],
        )

    def eligible(self, expression: Expression | None, excluded: Tensor = NONE) -> list[bool]:
        program = self.compiler.compile(expression)
        programs = FilterBatch(
            torch.from_numpy(program.steps).unsqueeze(0),
            torch.from_numpy(program.values).unsqueeze(0),
            torch.from_numpy(program.value_rows).unsqueeze(0),
            excluded,
        )
        found = self.filter(programs, torch.tensor([True]))
        everything = unpack(found.bits[0], found.bits[0].numel() * 64)
        assert not everything[self.n :].any(), "a bit past the last item is set"
        assert found.counts.tolist() == [everything.sum()]
        return everything[: self.n].tolist()


@pytest.mark.parametrize("n", [1, 64, 511, 512, 513, 1500])
def test_the_exact_columns_decide(n: int) -> None:
    world = World(n)
    old, tag = Range("year", None, 150.0, inclusive=True), Match("tags", ints=(2, 4))
    is_old = [any(y <= 150 for y in years) for years in world.years]
    has_tag = [bool({2, 4} & set(tags)) for tags in world.tags]
    named = Match("year", ints=(7, 8, 9, 1000))
    is_named = [any(y in (7, 8, 9) for y in years) for years in world.years]
    both = list(zip(is_old, has_tag, strict=True))
    assert world.eligible(old) == is_old
    assert world.eligible(tag) == has_tag
    assert world.eligible(named) == is_named
    assert world.eligible(Not(named)) == [not x for x in is_named]
    assert world.eligible(All((old, tag))) == [a and b for a, b in both]
    assert world.eligible(Not(Any((old, tag)))) == [not (a or b) for a, b in both]
    assert world.eligible(Exists("year")) == [bool(years) for years in world.years]
    three = AtLeast(2, (old, tag, named, Not(Exists("tags"))))
    assert world.eligible(three) == [
        a + b + c + (not tags) >= 2 for (a, b), c, tags in zip(both, is_named, world.tags, strict=True)
    ]
    assert world.eligible(None) == [True] * n
    assert world.eligible(Any()) == [False] * n


def test_excluded_items_are_left_out_whatever_the_filter_says() -> None:
    world = World(600)
    at = torch.tensor([[0, 599, -1, 0, 300, -1]])
    for expression in (None, Not(Match("year", ints=(-1,))), Range("year", None, 1e9)):
        without = world.eligible(expression)
        for position in (0, 300, 599):
            without[position] = False
        assert world.eligible(expression, at) == without
    assert not any(world.eligible(None, torch.arange(600).unsqueeze(0)))


def test_lists_can_be_dropped() -> None:
    world, none = World(600), torch.empty(0, dtype=torch.int64)
    held = world.filter.tensors()
    starts = torch.zeros(3, dtype=torch.int64)
    lists = PostingLists(starts, none, starts[:1], none.int())
    both = EligibilityFilter(600, held.signature, held.columns, held.offsets, (False, False), lists)
    assert both.tensors().lists is not None
    names = {name for name, _ in both.named_buffers()}
    both.drop_lists()
    assert both.tensors().lists is None
    assert {name for name, _ in both.named_buffers()} == {name for name in names if "list" not in name}


def test_programs_of_a_batch_are_padded_with_steps_that_do_nothing() -> None:
    world = World(513)
    programs = [world.compiler.compile(e) for e in (None, All((Exists("year"), Match("tags", ints=(1, 2)))))]
    steps = torch.zeros((2, 3, 4), dtype=torch.int64)
    values = torch.zeros((2, 2), dtype=torch.int64)
    rows = torch.zeros((2, 2, programs[1].value_rows.shape[1]), dtype=torch.int64)
    for i, program in enumerate(programs):
        steps[i, : len(program.steps)] = torch.from_numpy(program.steps)
        values[i, : len(program.values)] = torch.from_numpy(program.values)
        rows[i, : len(program.values)] = torch.from_numpy(program.value_rows)
    batch = FilterBatch(steps, values, rows, torch.tensor([[3], [-1]]))
    bits = world.filter(batch, torch.tensor([True, True])).bits
    assert unpack(bits[0], 513).tolist() == [p != 3 for p in range(513)]
    assert unpack(bits[1], 513).tolist() == [
        bool(years) and bool({1, 2} & set(tags)) for years, tags in zip(world.years, world.tags, strict=True)
    ]
    alone = world.filter(batch, torch.tensor([False, True]))
    assert torch.equal(alone.bits[1], bits[1])
    assert alone.counts.tolist() == [0, int(unpack(bits[1], 513).sum())]


def test_its_tensors_are_what_other_operations_filter_by() -> None:
    world = World(600)
    tensors = world.filter.tensors()
    assert tensors.signature.shape == (2, len(tensors.signature[0]), 8)
    assert [c.numel() for c in tensors.columns] == [600, sum(map(len, world.tags))]
    assert [o.numel() for o in tensors.offsets] == [0, 601]
