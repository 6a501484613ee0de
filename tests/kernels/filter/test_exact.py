from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
import torch
from torch import Tensor

from meshfold.kernels.filter.bundles import count, pack
from meshfold.kernels.filter.exact import filter_exact
from meshfold.kernels.filter.steps import Op

MANY, ONE, FULL = 0, 1, 2
INT64 = np.iinfo(np.int64)


@dataclass(frozen=True, eq=False)
class Items:
    """N items with a field of many values, one that some lack and one that all have."""

    n: int

    @cached_property
    def held(self) -> list[list[set[int]]]:
        """The values of each item, for each field."""
        rng = np.random.default_rng(self.n)
        ends = [INT64.min, -1, 0, 1, 2, 3, INT64.max]
        draw = [{ends[v] for v in rng.integers(0, 7, rng.integers(0, 5))} for _ in range(self.n)]
        some = [{ends[rng.integers(0, 7)]} if rng.random() < 0.7 else set() for _ in range(self.n)]
        return [draw, some, [{int(rng.integers(-3, 4))} for _ in range(self.n)]]

    def run(self, program: Program, positions: Tensor | None = None) -> list[bool]:
        at = torch.arange(self.n) if positions is None else positions
        present = [pack(torch.tensor([bool(values) for values in field])) for field in self.held]
        flat = [sorted(values) for values in self.held[MANY]]
        columns = [
            torch.tensor([v for values in flat for v in values], dtype=torch.int64),
            torch.tensor([max(values, default=0) for values in self.held[ONE]], dtype=torch.int64),
            torch.tensor([max(values) for values in self.held[FULL]], dtype=torch.int32),
        ]
        lengths = torch.tensor([0, *map(len, flat)])
        one_value = torch.empty(0, dtype=torch.int64)
        signature = torch.stack(present, dim=1)
        assert signature.shape == (count(self.n), 3, 8)
        offsets = [torch.cumsum(lengths, 0), one_value, one_value]
        steps = torch.tensor(program.steps, dtype=torch.int64)
        values = torch.tensor(program.values, dtype=torch.int64)
        return filter_exact(signature, columns, offsets, steps, values, at).tolist()


class Program:
    """A random program, and which items pass it by plain Python."""

    def __init__(self, items: Items, rng: np.random.Generator, depth: int) -> None:
        self.steps: list[list[int]] = []
        self.values: list[int] = []
        self._items = items
        self._rng = rng
        self.passing = self._emit(depth)
        self.steps += [[Op.NOOP, 0, 0, 0]] * int(rng.integers(0, 3))

    def _emit(self, depth: int) -> list[bool]:
        rng, items = self._rng, self._items
        kind = rng.integers(0, 9 if depth else 4)
        field = int(rng.integers(0, 3))
        if kind == 0:
            constant = bool(rng.integers(0, 2))
            self.steps.append([Op.CONSTANT, int(constant), 0, 0])
            return [constant] * items.n
        if kind == 1:
            self.steps.append([Op.EXISTS, field, 0, 0])
            return [bool(values) for values in items.held[field]]
        if kind == 2:
            wanted = [int(v) for v in rng.choice([INT64.min, -1, 0, 1, 2, 9, INT64.max], rng.integers(1, 4))]
            op = Op.PLANE if rng.integers(0, 2) else Op.MATCH
            self.steps.append([op, field, len(self.values), len(wanted)])
            self.values += wanted
            return [bool(values & set(wanted)) for values in items.held[field]]
        if kind == 3:
            field = int(rng.integers(1, 3))
            low, high = (int(v) for v in rng.choice([INT64.min, -2, 0, 1, 3, INT64.max], 2))
            self.steps.append([Op.RANGE, field, len(self.values), 2])
            self.values += [low, high]
            return [any(low <= v <= high for v in values) for values in items.held[field]]
        if kind == 4:
            inner = self._emit(depth - 1)
            self.steps.append([Op.NOT, 0, 0, 0])
            return [not passes for passes in inner]
        if kind in (5, 6):
            left, right = self._emit(depth - 1), self._emit(depth - 1)
            self.steps.append([Op.AND if kind == 5 else Op.OR, 0, 0, 0])
            both = zip(left, right, strict=True)
            return [a and b if kind == 5 else a or b for a, b in both]
        operands = [self._emit(depth - 1) for _ in range(rng.integers(0, 5))]
        least = int(rng.integers(0, len(operands) + 2))
        self.steps.append([Op.AT_LEAST, len(operands), least, 0])
        return [sum(operand[i] for operand in operands) >= least for i in range(items.n)]


@pytest.mark.parametrize("n", [1, 63, 64, 513, 700])
def test_random_programs_pass_whom_plain_python_passes(n: int) -> None:
    items = Items(n)
    rng = np.random.default_rng(n)
    for _ in range(60):
        program = Program(items, rng, 3)
        assert items.run(program) == program.passing


def test_positions_come_in_any_order_and_more_than_once() -> None:
    items = Items(600)
    rng = np.random.default_rng(4)
    at = torch.from_numpy(rng.integers(0, 600, 2000))
    for _ in range(20):
        program = Program(items, rng, 3)
        assert items.run(program, at) == [program.passing[p] for p in at.tolist()]
        assert items.run(program, at[:0]) == []


def test_an_opcode_that_no_one_knows_is_refused() -> None:
    items = Items(3)
    program = Program(items, np.random.default_rng(0), 0)
    program.steps.append([99, 0, 0, 0])
    with pytest.raises(ValueError, match="opcode 99"):
        items.run(program)


def test_a_missing_value_is_no_zero() -> None:
    signature = torch.stack([pack(torch.tensor([True, False]))], dim=1)
    columns, offsets = [torch.zeros(2, dtype=torch.int64)], [torch.empty(0, dtype=torch.int64)]
    at = torch.arange(2)
    for steps in ([[Op.MATCH, 0, 0, 1]], [[Op.PLANE, 0, 0, 1]], [[Op.RANGE, 0, 0, 2]]):
        got = filter_exact(signature, columns, offsets, torch.tensor(steps), torch.tensor([0, 0]), at)
        assert got.tolist() == [True, False]


def test_shapes_that_do_not_fit_are_refused() -> None:
    empty = torch.empty(0, dtype=torch.int64)
    signature, steps = torch.zeros((1, 1, 8), dtype=torch.int64), torch.zeros((1, 4), dtype=torch.int64)
    with pytest.raises(ValueError, match=r"steps must be \[L, 4\] int64, got \[1, 3\]"):
        filter_exact(signature, [], [], steps[:, :3], empty, empty)
    with pytest.raises(ValueError, match="signature must be"):
        filter_exact(signature[..., :7], [], [], steps, empty, empty)
    with pytest.raises(ValueError, match="positions must be"):
        filter_exact(signature, [], [], steps, empty, empty.int())
