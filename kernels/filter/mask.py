"""Filter steps over signatures: which items pass for sure, and which may pass.

Signatures are bit-major within a bundle: a term reads the rows of its bits and ANDs them (SilverTorch's Bloom
index). A Bloom bit may be a false positive, so each set on the stack is a pair: `sure` holds no item that fails
and `maybe` every item that passes. NOT swaps the two, which keeps negation free of false negatives.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from meshfold.kernels.expect import expect
from meshfold.kernels.filter.bundles import WORDS
from meshfold.kernels.filter.steps import STEP, Op


@dataclass(frozen=True, eq=False)
class Bounds:
    """sure, maybe: [B, G, 8] int64 - bits of items; bits past the last item are unspecified."""

    sure: Tensor
    maybe: Tensor


def filter_mask(signature: Tensor, steps: Tensor, value_rows: Tensor) -> Bounds:
    """Bounds of the items that pass each query's program.

    signature: [G, R, 8] int64 - row r of bundle g; see kernels/filter/bundles.py for the bits.
    steps: [B, L, 4] int64 - programs; see kernels/filter/steps.py.
    value_rows: [B, V, S] int64 - the rows set for each value, repeated where a value has fewer than S.
    """
    expect("signature", signature, ("G", "R", WORDS), torch.int64)
    expect("steps", steps, ("B", "L", STEP), torch.int64)
    expect("value_rows", value_rows, (steps.shape[0], "V", "S"), torch.int64)
    bounds = [_run(signature, s.tolist(), rows) for s, rows in zip(steps, value_rows, strict=True)]
    return Bounds(torch.stack([b.sure for b in bounds]), torch.stack([b.maybe for b in bounds]))


def _run(signature: Tensor, steps: list[list[int]], value_rows: Tensor) -> Bounds:
    none = signature.new_zeros((signature.shape[0], WORDS))
    stack: list[Bounds] = []
    for op, a, b, c in steps:
        match op:
            case Op.NOOP:
                pass
            case Op.CONSTANT:
                stack.append(Bounds(~none, ~none) if a else Bounds(none, none))
            case Op.MATCH:
                stack.append(Bounds(none, _any_value(signature, value_rows[b : b + c])))
            case Op.PLANE:
                exact = _any_value(signature, value_rows[b : b + c])
                stack.append(Bounds(exact, exact))
            case Op.RANGE:
                stack.append(Bounds(none, signature[:, a]))
            case Op.EXISTS:
                stack.append(Bounds(signature[:, a], signature[:, a]))
            case Op.AND:
                right, left = stack.pop(), stack.pop()
                stack.append(Bounds(left.sure & right.sure, left.maybe & right.maybe))
            case Op.OR:
                right, left = stack.pop(), stack.pop()
                stack.append(Bounds(left.sure | right.sure, left.maybe | right.maybe))
            case Op.NOT:
                inner = stack.pop()
                stack.append(Bounds(~inner.maybe, ~inner.sure))
            case Op.AT_LEAST:
                operands = [stack.pop() for _ in range(a)]
                stack.append(
                    Bounds(
                        at_least([o.sure for o in operands], b, none),
                        at_least([o.maybe for o in operands], b, none),
                    )
                )
            case _:
                raise ValueError(f"steps hold opcode {op}; known ones: kernels/filter/steps.py")
    (result,) = stack
    return result


def _any_value(signature: Tensor, rows: Tensor) -> Tensor:
    """rows: [n, S] -> [G, 8], items that have all S rows of some value."""
    found = signature.new_zeros((signature.shape[0], WORDS))
    for value in rows.tolist():
        both = signature[:, value[0]]
        for row in value[1:]:
            both = both & signature[:, row]
        found = found | both
    return found


def at_least(sets: list[Tensor], minimum: int, none: Tensor) -> Tensor:
    """Items in at least `minimum` of the sets, counted bit-sliced: plane i holds bit i of each count."""
    if minimum > len(sets):
        return none
    if minimum <= 0:
        return ~none
    planes = [none] * len(sets).bit_length()
    for carry in sets:
        for i, plane in enumerate(planes):
            planes[i], carry = plane ^ carry, plane & carry
    # From the highest bit down: greater so far, or equal so far.
    greater, equal = none, ~none
    for i in reversed(range(len(planes))):
        if minimum >> i & 1:
            equal = equal & planes[i]
        else:
            greater = greater | (equal & planes[i])
            equal = equal & ~planes[i]
    return greater | equal
