"""Filter steps over exact columns, for given items: decides which are eligible."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from meshfold.kernels.expect import expect
from meshfold.kernels.filter.bundles import WORDS, contains
from meshfold.kernels.filter.ragged import ranges
from meshfold.kernels.filter.steps import STEP, Op


def filter_exact(
    signature: Tensor,
    columns: Sequence[Tensor],
    offsets: Sequence[Tensor],
    steps: Tensor,
    values: Tensor,
    positions: Tensor,
) -> Tensor:
    """positions: [n] int64 -> [n] bool, whether the item at each position passes one query's program.

    signature: [G, R, 8] int64 - row f is set for items that have field f.
    columns: [N] or [M] int32 or int64 for each field - the items' values in the order of positions.
    offsets: [N + 1] int64 for each field of many values: item i has columns[f][offsets[f][i] :
    offsets[f][i + 1]]; [0] for a field of one value: item i has columns[f][i], if it has the field.
    steps: [L, 4] int64, values: [V] int64 - the program; see kernels/filter/steps.py.
    """
    expect("signature", signature, ("G", "R", WORDS), torch.int64)
    expect("steps", steps, ("L", STEP), torch.int64)
    expect("values", values, ("V",), torch.int64)
    expect("positions", positions, ("n",), torch.int64)
    everything = torch.ones_like(positions, dtype=torch.bool)
    stack: list[Tensor] = []
    for op, a, b, c in steps.tolist():
        match op:
            case Op.NOOP:
                pass
            case Op.CONSTANT:
                stack.append(everything if a else ~everything)
            case Op.MATCH | Op.PLANE:
                wanted = values[b : b + c]
                if offsets[a].numel():
                    stack.append(_any_of(columns[a], offsets[a], positions, wanted))
                else:
                    present = contains(signature[:, a], positions)
                    stack.append(present & torch.isin(columns[a][positions].long(), wanted))
            case Op.RANGE:
                own = columns[a][positions].long()
                present = contains(signature[:, a], positions)
                stack.append(present & (own >= values[b]) & (own <= values[b + 1]))
            case Op.EXISTS:
                stack.append(contains(signature[:, a], positions))
            case Op.AND:
                right, left = stack.pop(), stack.pop()
                stack.append(left & right)
            case Op.OR:
                right, left = stack.pop(), stack.pop()
                stack.append(left | right)
            case Op.NOT:
                stack.append(~stack.pop())
            case Op.AT_LEAST:
                held = torch.zeros_like(positions)
                for _ in range(a):
                    held = held + stack.pop()
                stack.append(held >= b)
            case _:
                raise ValueError(f"steps hold opcode {op}; known ones: kernels/filter/steps.py")
    (result,) = stack
    return result


def _any_of(column: Tensor, offsets: Tensor, positions: Tensor, wanted: Tensor) -> Tensor:
    first = offsets[positions]
    lengths = offsets[positions + 1] - first
    owner = torch.repeat_interleave(torch.arange(positions.numel(), device=positions.device), lengths)
    hits = torch.isin(column[ranges(first, lengths)].long(), wanted)
    found = torch.zeros_like(positions, dtype=torch.bool)
    found[owner[hits]] = True
    return found
