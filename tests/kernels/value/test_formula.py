import math
import struct
from collections.abc import Callable
from itertools import product
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from meshfold.kernels.native import library
from meshfold.kernels.value.formula import LARGEST, ValueOp, arity, formula_reference, formula_values

SMALLEST, INFINITY, NAN = 5e-324, math.inf, math.nan
EDGES = [0.0, -0.0, 1.0, -1.0, 0.1, 3.5, -7.25, 1e-30, 2.0**-149, SMALLEST, -SMALLEST, 88.7, 89.0, -103.0]
EDGES += [1e20, -1e20, LARGEST, -LARGEST, 1e300, -1e300, INFINITY, -INFINITY, NAN]


def within(x: float) -> float:
    return 0.0 if math.isnan(x) else max(-LARGEST, min(LARGEST, x))


def divided(a: float, b: float) -> float:
    if b == 0:
        return 0.0
    # Python itself refuses nothing but a zero here.
    return a / b


UNARY: dict[ValueOp, Callable[[float], float]] = {
    ValueOp.NEGATE: lambda a: -a,
    ValueOp.SQRT: lambda a: math.sqrt(a) if a > 0 else 0.0,
}
BINARY: dict[ValueOp, Callable[[float, float], float]] = {
    ValueOp.ADD: lambda a, b: a + b,
    ValueOp.SUBTRACT: lambda a, b: a - b,
    ValueOp.MULTIPLY: lambda a, b: a * b,
    ValueOp.DIVIDE: divided,
    ValueOp.MINIMUM: min,
    ValueOp.MAXIMUM: max,
    ValueOp.EQUAL: lambda a, b: float(a == b),
    ValueOp.NOT_EQUAL: lambda a, b: float(a != b),
    ValueOp.LESS: lambda a, b: float(a < b),
    ValueOp.LESS_EQUAL: lambda a, b: float(a <= b),
    ValueOp.GREATER: lambda a, b: float(a > b),
    ValueOp.GREATER_EQUAL: lambda a, b: float(a >= b),
}


def bits(values: Tensor) -> list[int]:
    return values.contiguous().view(torch.int32).flatten().tolist()


def bits_of(number: float) -> int:
    """Of the float32 next to it, without the sign of a zero."""
    bits: int = struct.unpack("i", struct.pack("f", within(number) + 0.0))[0]
    return 0 if bits == -(2**31) else bits


def run(steps: list[tuple[ValueOp, int]], constants: list[float], operands: list[list[float]]) -> Tensor:
    """[M] float32 of one query."""
    return formula_values(
        torch.tensor([steps], dtype=torch.int64).reshape(1, -1, 2),
        torch.tensor([constants], dtype=torch.float64).reshape(1, -1),
        torch.tensor([operands], dtype=torch.float64).reshape(1, len(operands), len(operands[0])),
    )[0]


@pytest.mark.parametrize("op", UNARY, ids=lambda op: op.name)
def test_an_operator_of_one(op: ValueOp) -> None:
    values = run([(ValueOp.OPERAND, 0), (op, 0)], [], [EDGES])
    assert bits(values) == [bits_of(UNARY[op](within(a))) for a in EDGES]


@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.name)
def test_an_operator_of_two(op: ValueOp) -> None:
    pairs = list(product(EDGES, EDGES))
    values = run(
        [(ValueOp.OPERAND, 0), (ValueOp.OPERAND, 1), (op, 0)], [], [*map(list, zip(*pairs, strict=True))]
    )
    assert bits(values) == [bits_of(BINARY[op](within(a), within(b))) for a, b in pairs]


def test_truth() -> None:
    truths = [[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]]
    both = [(ValueOp.OPERAND, 0), (ValueOp.OPERAND, 1)]
    assert run([*both, (ValueOp.AND, 0)], [], truths).tolist() == [0, 0, 0, 1]
    assert run([*both, (ValueOp.OR, 0)], [], truths).tolist() == [0, 1, 1, 1]
    assert run([both[0], (ValueOp.NOT, 0)], [], truths).tolist() == [1, 1, 0, 0]
    chosen = [both[0], (ValueOp.CONSTANT, 1), (ValueOp.CONSTANT, 0), (ValueOp.SELECT, 0)]
    assert run(chosen, [7.0, -9.0], truths).tolist() == [7, 7, -9, -9]


def test_what_is_undefined_is_zero_and_what_is_too_large_the_largest() -> None:
    x, y = (ValueOp.OPERAND, 0), (ValueOp.OPERAND, 1)
    assert run([x, y, (ValueOp.DIVIDE, 0)], [], [[1.0, 0.0, NAN], [0.0, -0.0, 0.0]]).tolist() == [0, 0, 0]
    assert run([x, (ValueOp.LOG, 0)], [], [[0.0, -0.0, -1.0, NAN]]).tolist() == [0, 0, 0, 0]
    assert run([x, (ValueOp.EXP, 0)], [], [[89.0, LARGEST, -1e30]]).tolist() == [LARGEST, LARGEST, 0]
    # Infinity less infinity, were it not for the range.
    steps = [x, x, (ValueOp.MULTIPLY, 0), x, x, (ValueOp.MULTIPLY, 0), (ValueOp.SUBTRACT, 0)]
    assert run(steps, [], [[1e30, -INFINITY]]).tolist() == [0, 0]


def close(values: Tensor, expected: list[float]) -> None:
    """Equal, or the float32 beside it: a float64 off by 1e-15 of itself may round to the other side."""
    assert all(abs(a - b) <= 1 for a, b in zip(bits(values), map(bits_of, expected), strict=True)), list(
        zip(values.tolist(), expected, strict=True)
    )


@settings(deadline=None)
@given(st.lists(st.floats(-110, 100), min_size=1, max_size=40))
def test_exp(numbers: list[float]) -> None:
    close(run([(ValueOp.OPERAND, 0), (ValueOp.EXP, 0)], [], [numbers]), [math.exp(x) for x in numbers])


@settings(deadline=None)
@given(st.lists(st.floats(SMALLEST, LARGEST), min_size=1, max_size=40))
def test_log(numbers: list[float]) -> None:
    close(run([(ValueOp.OPERAND, 0), (ValueOp.LOG, 0)], [], [numbers]), [math.log(x) for x in numbers])


def test_exp_and_log_are_right_to_a_few_units_of_float64() -> None:
    # (f(x) - y) * 1e14 shows what rounding to float32 would hide.
    numbers = [1e-9, 0.3, 0.5, math.log(2) / 2, 1.0, 1.5, 2.0, 3.7, 20.0, 88.0]
    for op, exact in ((ValueOp.EXP, math.exp), (ValueOp.LOG, math.log)):
        for x in numbers:
            y = exact(x)
            steps = [(ValueOp.OPERAND, 0), (op, 0), (ValueOp.CONSTANT, 0), (ValueOp.SUBTRACT, 0)]
            steps += [(ValueOp.CONSTANT, 1), (ValueOp.MULTIPLY, 0)]
            off = run(steps, [y, 1e16], [[x]]).item() / 1e16
            assert abs(off) <= 4 * math.ulp(y), (op.name, x, off)


terms = st.tuples(st.sampled_from([ValueOp.CONSTANT, ValueOp.OPERAND]), st.integers(0, 2))
operators = st.sampled_from([op for op in ValueOp if arity(op)])


@st.composite
def programs(draw: st.DrawFn) -> list[tuple[ValueOp, int]]:
    steps: list[tuple[ValueOp, int]] = [draw(terms)]
    held = 1
    for op in draw(st.lists(operators, max_size=12)):
        while held < arity(op):
            steps.append(draw(terms))
            held += 1
        steps.append((op, 0))
        held += 1 - arity(op)
    return steps


numbers = st.floats() | st.sampled_from(EDGES)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(programs(), min_size=1, max_size=4).map(lambda some: [*some, some[0]]),
    st.sampled_from([1, 63, 1000]),
    st.lists(numbers, min_size=1, max_size=20),
    st.integers(0, 2**32).map(Random),
)
def test_a_query_gets_the_same_bytes_alone_and_in_any_batch(
    some: list[list[tuple[ValueOp, int]]], m: int, pool: list[float], random: Random
) -> None:
    longest = max(map(len, some)) + random.randrange(3)
    steps = torch.tensor([s + [(ValueOp.NOOP, 0)] * (longest - len(s)) for s in some], dtype=torch.int64)
    constants = torch.tensor([[random.choice(pool) for _ in range(3)] for _ in some], dtype=torch.float64)
    operands = torch.tensor(random.choices(pool, k=len(some) * 3 * m), dtype=torch.float64)
    operands = operands.reshape(len(some), 3, m)
    together = formula_values(steps, constants, operands)
    assert together.dtype == torch.float32
    assert together.isfinite().all()
    assert not ((together == 0) & together.signbit()).any()
    expected = bits(formula_reference(steps, constants, operands))
    for level in library.levels():
        with library.forced(level):
            assert bits(formula_values(steps, constants, operands)) == expected, level
    for i, own in enumerate(some):
        alone = formula_values(torch.tensor([own]), constants[i : i + 1], operands[i : i + 1])
        assert bits(alone[0]) == bits(together[i])
        one = random.randrange(m)
        single = formula_values(
            torch.tensor([own]), constants[i : i + 1], operands[i : i + 1, :, one : one + 1]
        )
        assert bits(single) == bits(together[i, one])


def test_no_candidates_have_no_values() -> None:
    assert run([(ValueOp.CONSTANT, 0)], [1.0], [[]]).shape == (0,)
    assert run([(ValueOp.CONSTANT, 0)], [1.0], [[2.0, 3.0]]).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("op", [op for op in ValueOp if arity(op)], ids=lambda op: op.name)
def test_every_level_gives_the_same_bytes(op: ValueOp) -> None:
    """Many candidates and queries, so that threads share them; a block's end, too."""
    triples = torch.tensor(list(product(EDGES, EDGES, EDGES[::3])), dtype=torch.float64).T
    operands = torch.stack([triples, triples.flip(1), triples * 1.7]).contiguous()
    steps = torch.tensor([[*((ValueOp.OPERAND, i) for i in range(arity(op))), (op, 0)]]).expand(3, -1, -1)
    given = steps, torch.zeros(3, 0, dtype=torch.float64), operands
    expected = bits(formula_reference(*given))
    for level in library.levels():
        with library.forced(level):
            assert bits(formula_values(*given)) == expected, level


@pytest.mark.parametrize("level", library.levels())
@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "steps must leave one number for each query, left 0"),
        ([(ValueOp.CONSTANT, 0)] * 2, "steps must leave one number for each query, left 2"),
        ([(ValueOp.CONSTANT, 1)], "steps push CONSTANT 1 of 1"),
        ([(ValueOp.OPERAND, -1)], "steps push OPERAND -1 of 1"),
        ([(ValueOp.CONSTANT, 0), (ValueOp.ADD, 0)], "steps take more numbers for ADD than they have pushed"),
        ([(99, 0)], "steps hold opcode 99"),
    ],
)
def test_a_program_that_cannot_run_is_an_error(
    steps: list[tuple[ValueOp, int]], message: str, level: str
) -> None:
    with library.forced(level), pytest.raises(ValueError, match=message):
        run(steps, [1.0], [[2.0]])


def test_tensors_of_another_shape_or_kind_are_an_error() -> None:
    steps, constants = torch.tensor([[[1, 0]]]), torch.zeros((1, 1), dtype=torch.float64)
    with pytest.raises(ValueError, match=r"operands must be \[1, V, M\] float64, got \[1, 2, 3\] float32"):
        formula_values(steps, constants, torch.zeros((1, 2, 3)))
    with pytest.raises(ValueError, match=r"constants must be \[1, C\] float64, got \[2, 1\] float64"):
        formula_values(steps, constants.expand(2, 1), torch.zeros((1, 2, 3), dtype=torch.float64))
