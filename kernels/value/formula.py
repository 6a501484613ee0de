"""Value formulas: arithmetic over task scores, similarities and fields of candidates, with the same bytes on any
device.

Steps are postfix: a term pushes a number, an operator replaces the numbers on top; truth is 1, falsehood
0. A step is 2 integers:

    opcode      argument
    NOOP        -           padding
    CONSTANT    place       the query's constant
    OPERAND     place       the candidates' operand
    NEGATE, NOT, SQRT, EXP, LOG                     of the number on top
    ADD, SUBTRACT, MULTIPLY, DIVIDE, MINIMUM, MAXIMUM, EQUAL, NOT_EQUAL, LESS, LESS_EQUAL, GREATER,
    GREATER_EQUAL, AND, OR                          of the two on top, the left one below
    SELECT      -           of three: condition, what if it is true, what if not

Every number is a float64 within +-LARGEST, and every operator one IEEE operation, or a fixed row of them,
rounded one by one: no device, batch or compiler can round differently. Numbers beyond that range become
+-LARGEST. Undefined is 0: x / 0, the square root of a negative number, the logarithm of what is not positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import torch
from torch import Tensor

from meshfold.kernels.expect import expect
from meshfold.kernels.native import library
from meshfold.kernels.operation import Operation


class ValueOp(IntEnum):
    NOOP = 0
    CONSTANT = 1
    OPERAND = 2
    NEGATE = 3
    NOT = 4
    SQRT = 5
    EXP = 6
    LOG = 7
    ADD = 8
    SUBTRACT = 9
    MULTIPLY = 10
    DIVIDE = 11
    MINIMUM = 12
    MAXIMUM = 13
    EQUAL = 14
    NOT_EQUAL = 15
    LESS = 16
    LESS_EQUAL = 17
    GREATER = 18
    GREATER_EQUAL = 19
    AND = 20
    OR = 21
    SELECT = 22


VALUE_STEP = 2
LARGEST = torch.finfo(torch.float32).max

# Of fdlibm's e_exp.c and e_log.c (Sun Microsystems, 1993): ln 2 in two parts and two minimax polynomials.
_LN2_HIGH = 6.93147180369123816490e-01
_LN2_LOW = 1.90821492927058770002e-10
_EXP = (
    1.66666666666666019037e-01,
    -2.77777777770155933842e-03,
    6.61375632143793436117e-05,
    -1.65339022054652515390e-06,
    4.13813679705723846039e-08,
)
_LOG = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)
_SQRT_HALF = 0.7071067811865476
# Beyond, e**x has left the range: it is LARGEST, or nothing that a float32 holds.
_EXP_HIGHEST, _EXP_LOWEST = 100.0, -700.0


def arity(op: ValueOp) -> int:
    """How many numbers an operator takes from the stack; each but NOOP leaves one."""
    if op <= ValueOp.OPERAND:
        return 0
    if op <= ValueOp.LOG:
        return 1
    return 3 if op is ValueOp.SELECT else 2


def formula_values(steps: Tensor, constants: Tensor, operands: Tensor) -> Tensor:
    """[B, M] float32: the value of each candidate by its query's program; never NaN, infinite or -0.

    steps: [B, L, 2] int64. constants: [B, C] float64. operands: [B, V, M] float64, where NaN counts as 0.
    Raises ValueError for an unknown opcode or place, or a program that does not end with one number; on CUDA, where
    asking would wait for the device, the values of such a program are 0.
    """
    expect("steps", steps, ("B", "L", VALUE_STEP), torch.int64)
    b = steps.shape[0]
    expect("constants", constants, (b, "C"), torch.float64)
    expect("operands", operands, (b, "V", "M"), torch.float64)
    return _values(steps, constants, operands)


def formula_reference(steps: Tensor, constants: Tensor, operands: Tensor) -> Tensor:
    """Every level gives these bytes."""
    b = steps.shape[0]
    constants, operands = _finite(constants), _finite(operands)
    queries_of: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for query, padded in enumerate(steps.tolist()):
        program = tuple((op, place) for op, place in padded if op != ValueOp.NOOP)
        queries_of.setdefault(program, []).append(query)
    values = torch.empty((b, operands.shape[2]), dtype=torch.float32, device=operands.device)
    for program, queries in queries_of.items():
        if len(queries) == b:
            values[:] = _run(program, constants, operands)
        else:
            rows = torch.tensor(queries, device=operands.device)
            values[rows] = _run(program, constants[rows], operands[rows]).expand(-1, values.shape[1])
    return values


_values = Operation("value_program", formula_reference)
_values.register_import("cuda", "meshfold.kernels.gpu.formula", "formula_gpu")


@_values.register_native
def _(steps: Tensor, constants: Tensor, operands: Tensor) -> Tensor:
    b, v, m = operands.shape
    values = torch.empty((b, m), dtype=torch.float32)
    library.call(
        "value_program",
        *(steps.contiguous(), constants.contiguous(), operands.contiguous()),
        *(b, steps.shape[1], constants.shape[1], v, m, values, library.threads()),
    )
    return values


@_values.register_fake
def _(steps: Tensor, constants: Tensor, operands: Tensor) -> Tensor:
    return operands.new_empty((operands.shape[0], operands.shape[2]), dtype=torch.float32)


def _run(program: Sequence[tuple[int, int]], constants: Tensor, operands: Tensor) -> Tensor:
    """[B, M] or [B, 1] float32."""
    stack: list[Tensor] = []
    for opcode, place in program:
        try:
            op = ValueOp(opcode)
        except ValueError:
            raise ValueError(f"steps hold opcode {opcode}; known ones: kernels/value/formula.py") from None
        if op in (ValueOp.CONSTANT, ValueOp.OPERAND):
            source = constants.unsqueeze(-1) if op is ValueOp.CONSTANT else operands
            if not 0 <= place < source.shape[1]:
                raise ValueError(f"steps push {op.name} {place} of {source.shape[1]}")
            stack.append(source[:, place])
        else:
            first = len(stack) - arity(op)
            if first < 0:
                raise ValueError(f"steps take more numbers for {op.name} than they have pushed")
            stack[first:] = [_apply(op, stack[first:])]
    if len(stack) != 1:
        raise ValueError(f"steps must leave one number for each query, left {len(stack)}")
    # Adding 0.0 makes 0.0 of -0.0.
    return stack[0].float() + 0.0


def _apply(op: ValueOp, given: Sequence[Tensor]) -> Tensor:
    if len(given) == 1:
        return _of_one(op, given[0])
    if op is ValueOp.SELECT:
        return torch.where(given[0] != 0, given[1], given[2])
    a, b = given
    match op:
        case ValueOp.ADD:
            return _within(a + b)
        case ValueOp.SUBTRACT:
            return _within(a - b)
        case ValueOp.MULTIPLY | ValueOp.AND:
            return _within(a * b)
        case ValueOp.DIVIDE:
            defined = b != 0
            return _within(torch.where(defined, a / torch.where(defined, b, 1.0), 0.0))
        # torch's own minimum and maximum leave the sign of a zero to the device.
        case ValueOp.MINIMUM:
            return torch.where(b < a, b, a)
        case ValueOp.MAXIMUM | ValueOp.OR:
            return torch.where(b > a, b, a)
        case ValueOp.EQUAL:
            return (a == b).double()
        case ValueOp.NOT_EQUAL:
            return (a != b).double()
        case ValueOp.LESS:
            return (a < b).double()
        case ValueOp.LESS_EQUAL:
            return (a <= b).double()
        case ValueOp.GREATER:
            return (a > b).double()
        case _:
            return (a >= b).double()


def _of_one(op: ValueOp, x: Tensor) -> Tensor:
    match op:
        case ValueOp.NEGATE:
            return -x
        case ValueOp.NOT:
            return 1.0 - x
        case ValueOp.SQRT:
            return torch.where(x > 0, x, 0.0).sqrt()
        case ValueOp.EXP:
            return _exp(x)
        case _:
            return _log(x)


def _exp(x: Tensor) -> Tensor:
    """e**x = 2**k e**r, where r = x - k ln 2 is within half of ln 2; off by at most 1e-15 of itself."""
    inside = x.clamp(_EXP_LOWEST, _EXP_HIGHEST)
    k = (inside * (1 / (_LN2_HIGH + _LN2_LOW))).round()
    high, low = inside - k * _LN2_HIGH, k * _LN2_LOW
    r = high - low
    t = r * r
    c = r - t * _polynomial(t, _EXP)
    grown = 1.0 - ((low - (r * c) / (2.0 - c)) - high)
    power = ((k.long() + 1023) << 52).view(torch.float64)
    return _within(torch.where(x < _EXP_LOWEST, 0.0, grown * power))


def _log(x: Tensor) -> Tensor:
    """ln x = k ln 2 + ln(1 + f), where x = 2**k (1 + f) and 1 + f is from sqrt(1/2) to sqrt(2)."""
    positive = x > 0
    mantissa, exponent = torch.frexp(torch.where(positive, x, 1.0))
    small = mantissa < _SQRT_HALF
    f = torch.where(small, mantissa + mantissa, mantissa) - 1.0
    k = exponent.double() - small.double()
    s = f / (2.0 + f)
    z = s * s
    rest = z * _polynomial(z, _LOG)
    half = f * f * 0.5
    whole = k * _LN2_HIGH - ((half - (s * (half + rest) + k * _LN2_LOW)) - f)
    return torch.where(positive, whole, 0.0)


def _polynomial(t: Tensor, coefficients: Sequence[float]) -> Tensor:
    total = torch.full_like(t, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = coefficient + t * total
    return total


def _within(x: Tensor) -> Tensor:
    return x.clamp(-LARGEST, LARGEST)


def _finite(x: Tensor) -> Tensor:
    return _within(x.nan_to_num(0.0, LARGEST, -LARGEST))
