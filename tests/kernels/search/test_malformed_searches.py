"""Searches whose tensors do not fit together: refused, by every level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from typing import Any

import pytest
import torch

from meshfold.kernels.filter.steps import Op
from meshfold.kernels.native import library
from tests.kernels.backends import LEVELS
from tests.kernels.hard_filters import INT64, KIND, TAGS, YEAR, match, no
from tests.kernels.search_cases import HUGE, SearchCase, run, search_case

Mutation = Callable[[SearchCase], SearchCase]


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
    "a negative depth": entry("limits.candidates", (0,), -1),
    "a depth above k": entry("limits.candidates", (0,), 21),
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
    with library.forced(level):
        run(right)
        with pytest.raises(ValueError, match=r"\w"):
            run(MALFORMED[name](right))
