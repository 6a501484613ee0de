import numpy as np
import pytest
import torch
from torch import Tensor

from meshfold.kernels.filter.bundles import count, pack, unpack
from meshfold.kernels.filter.mask import at_least, filter_mask
from meshfold.kernels.filter.steps import Op

FIELDS, VALUES, ROWS_PER_VALUE = 2, 12, 3


class Signed:
    """N items, the sets that terms stand for, and a signature whose Bloom rows lie about some of them.

    Row f tells who has field f. Value v < VALUES / 2 is exact, the others' rows hold items that lack it.
    """

    def __init__(self, n: int) -> None:
        rng = np.random.default_rng(n)
        self.n = n
        self.present = torch.from_numpy(rng.random((FIELDS, n)) < 0.7)
        self.truth = torch.from_numpy(rng.random((VALUES, n)) < 0.4) & self.present[0]
        noise = torch.from_numpy(rng.random((VALUES, ROWS_PER_VALUE, n)) < 0.3)
        noise[: VALUES // 2] = False
        rows = (self.truth[:, None] | noise).flatten(0, 1)
        self.signature = torch.stack([pack(row) for row in torch.cat([self.present, rows])], dim=1)

    def rows_of(self, value: int) -> list[int]:
        first = FIELDS + value * ROWS_PER_VALUE
        return list(range(first, first + ROWS_PER_VALUE))


class Program:
    """A random program and who passes it in truth; a range lets through some of those with the field."""

    def __init__(self, items: Signed, rng: np.random.Generator, depth: int) -> None:
        self.items, self.rng = items, rng
        self.steps: list[list[int]] = []
        self.rows: list[list[int]] = []
        self.passing = self._emit(depth)

    def _term(self) -> Tensor:
        rng, items = self.rng, self.items
        kind = rng.integers(0, 5)
        if kind == 0:
            constant = bool(rng.integers(0, 2))
            self.steps.append([Op.CONSTANT, int(constant), 0, 0])
            return torch.full((items.n,), constant)
        field = int(rng.integers(0, FIELDS))
        if kind == 1:
            self.steps.append([Op.EXISTS, field, 0, 0])
            return items.present[field]
        if kind == 2:
            self.steps.append([Op.RANGE, field, 0, 2])
            return items.present[field] & torch.from_numpy(rng.random(items.n) < 0.5)
        exact = kind == 3
        half = VALUES // 2
        chosen = rng.integers(0, half, rng.integers(1, 4)) + (0 if exact else half)
        self.steps.append([Op.PLANE if exact else Op.MATCH, 0, len(self.rows), len(chosen)])
        self.rows += [items.rows_of(int(value)) for value in chosen]
        return items.truth[torch.from_numpy(chosen)].any(0)

    def _emit(self, depth: int) -> Tensor:
        kind = self.rng.integers(0, 5 if depth else 1)
        if kind == 0:
            return self._term()
        if kind == 1:
            inner = self._emit(depth - 1)
            self.steps.append([Op.NOT, 0, 0, 0])
            return ~inner
        if kind in (2, 3):
            left, right = self._emit(depth - 1), self._emit(depth - 1)
            self.steps.append([Op.AND if kind == 2 else Op.OR, 0, 0, 0])
            return left & right if kind == 2 else left | right
        operands = [self._emit(depth - 1) for _ in range(self.rng.integers(0, 6))]
        least = int(self.rng.integers(0, len(operands) + 2))
        self.steps.append([Op.AT_LEAST, len(operands), least, 0])
        return sum(operands, torch.zeros(self.items.n, dtype=torch.int64)) >= least


def padded(lists: list[list[list[int]]], width: int) -> Tensor:
    out = torch.zeros((len(lists), max(1, *map(len, lists)), width), dtype=torch.int64)
    for row, rows in zip(out, lists, strict=True):
        if rows:
            row[: len(rows)] = torch.tensor(rows)
    return out


@pytest.mark.parametrize("n", [1, 64, 511, 512, 513, 1000])
def test_sure_items_pass_and_passing_items_may_pass(n: int) -> None:
    items = Signed(n)
    rng = np.random.default_rng(n + 1)
    programs = [Program(items, rng, int(rng.integers(0, 5))) for _ in range(80)]
    steps = padded([p.steps for p in programs], 4)
    bounds = filter_mask(items.signature, steps, padded([p.rows for p in programs], ROWS_PER_VALUE))
    assert bounds.sure.shape == (80, count(n), 8)
    decided = 0
    for i, program in enumerate(programs):
        sure, maybe = unpack(bounds.sure[i], n), unpack(bounds.maybe[i], n)
        assert not (sure & ~program.passing).any(), "an item that fails is sure to pass"
        assert not (program.passing & ~maybe).any(), "an item that passes is ruled out"
        decided += int((sure == maybe).sum())
    assert decided > 80 * n / 4, "the bounds say next to nothing"


def test_exact_terms_alone_leave_nothing_open() -> None:
    items = Signed(700)
    rng = np.random.default_rng(0)
    programs = [Program(items, rng, 4) for _ in range(200)]
    exact = [p for p in programs if not {s[0] for s in p.steps} & {Op.MATCH, Op.RANGE}]
    assert len(exact) > 20
    steps = padded([p.steps for p in exact], 4)
    bounds = filter_mask(items.signature, steps, padded([p.rows for p in exact], ROWS_PER_VALUE))
    for i, program in enumerate(exact):
        assert torch.equal(unpack(bounds.sure[i], 700), program.passing)
        assert torch.equal(unpack(bounds.maybe[i], 700), program.passing)


def test_the_company_of_a_program_changes_nothing() -> None:
    items = Signed(600)
    rng = np.random.default_rng(2)
    programs = [Program(items, rng, 3) for _ in range(10)]
    steps = padded([p.steps for p in programs], 4)
    rows = padded([p.rows for p in programs], ROWS_PER_VALUE)
    whole = filter_mask(items.signature, steps, rows)
    for i, program in enumerate(programs):
        alone = filter_mask(
            items.signature, padded([program.steps], 4), padded([program.rows], ROWS_PER_VALUE)
        )
        assert torch.equal(alone.sure[0], whole.sure[i])
        assert torch.equal(alone.maybe[0], whole.maybe[i])


@pytest.mark.parametrize("sets", [*range(10), 15, 16, 17, 31, 32, 33, 63, 64, 70])
def test_counting_agrees_with_numpy(sets: int) -> None:
    rng = np.random.default_rng(sets)
    n = 512
    members = torch.from_numpy(rng.random((sets, n)) < rng.random(n))
    none = torch.zeros((1, 8), dtype=torch.int64)
    counted = members.sum(0)
    for minimum in range(sets + 3):
        got = unpack(at_least([pack(m) for m in members], minimum, none), n)
        assert torch.equal(got, counted >= minimum)


def test_a_signature_without_rows_still_knows_constants() -> None:
    signature = torch.empty((2, 0, 8), dtype=torch.int64)
    steps = torch.tensor([[[Op.CONSTANT, 1, 0, 0]], [[Op.CONSTANT, 0, 0, 0]]])
    bounds = filter_mask(signature, steps, torch.zeros((2, 0, 4), dtype=torch.int64))
    assert bounds.sure[0].eq(-1).all()
    assert not bounds.maybe[1].any()


def test_an_opcode_that_no_one_knows_is_refused() -> None:
    signature = torch.zeros((1, 1, 8), dtype=torch.int64)
    with pytest.raises(ValueError, match="opcode 77"):
        filter_mask(signature, torch.tensor([[[77, 0, 0, 0]]]), torch.zeros((1, 0, 4), dtype=torch.int64))


def test_shapes_that_do_not_fit_are_refused() -> None:
    signature, steps = torch.zeros((1, 1, 8), dtype=torch.int64), torch.zeros((2, 1, 4), dtype=torch.int64)
    with pytest.raises(ValueError, match=r"value_rows must be \[2, V, S\] int64, got \[1, 1, 4\]"):
        filter_mask(signature, steps, torch.zeros((1, 1, 4), dtype=torch.int64))
    with pytest.raises(ValueError, match="signature must be"):
        filter_mask(signature.int(), steps, torch.zeros((2, 1, 4), dtype=torch.int64))
