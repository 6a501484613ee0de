import math
from random import Random

import pytest
import torch
from torch import Tensor

from meshfold.kernels.value.formula import LARGEST, ValueOp, arity, formula_values

EDGES = [0.0, -0.0, 1.0, -1.0, 0.1, 3.5, -7.25, 1e-30, 5e-324, -5e-324, 2.0**-1030, 88.7, -103.0, -701.0]
EDGES += [0.5, 0.7071067811865476, 2.0, 1e20, LARGEST, -LARGEST, 1e300, -1e300, math.inf, -math.inf, math.nan]
PUSHES = (ValueOp.CONSTANT, ValueOp.OPERAND)


def equal(steps: Tensor, constants: Tensor, operands: Tensor, device: torch.device) -> None:
    from meshfold.kernels.gpu.formula import formula_gpu

    ours = formula_gpu(steps.to(device), constants.to(device), operands.to(device)).cpu()
    assert torch.equal(ours.view(torch.int32), formula_values(steps, constants, operands).view(torch.int32))


# What leaves float64 is brought back; numpy, which interprets, warns of it.
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize(
    "op", [op for op in ValueOp if op not in (ValueOp.NOOP, *PUSHES)], ids=lambda op: op.name
)
def test_every_operator_on_every_edge(op: ValueOp, device: torch.device) -> None:
    n = arity(op)
    axes = torch.tensor(EDGES, dtype=torch.float64)
    grid = torch.meshgrid(*[axes if i < 2 else axes[:5] for i in range(n)], indexing="ij")
    operands = torch.stack([axis.flatten() for axis in grid]).unsqueeze(0)
    steps = [[ValueOp.OPERAND, i] for i in range(n)] + [[op, 0]]
    equal(torch.tensor([steps]), torch.empty((1, 0), dtype=torch.float64), operands, device)


@pytest.mark.parametrize("m", [1, 511, 513])
def test_programs_of_all_shapes_in_one_batch(m: int, device: torch.device) -> None:
    random, places = Random(m), 3
    programs = []
    for length in (1, 2, 5, 12, 25):
        steps: list[list[int]] = []
        held = 0
        while len(steps) < length or held != 1:
            grows = held == 0 or (len(steps) < length and random.random() < 0.6)
            able = PUSHES if grows else [op for op in ValueOp if op > ValueOp.OPERAND and arity(op) <= held]
            if not grows and held > 1 and len(steps) >= length:
                able = [op for op in able if arity(op) > 1]
            op = random.choice(list(able))
            held += 1 - arity(op)
            steps += [[op, random.randrange(places)]]
            if random.random() < 0.2:
                steps += [[ValueOp.NOOP, 0]]
        programs.append(steps)
    longest = max(map(len, programs))
    padded = torch.tensor([steps + [[ValueOp.NOOP, 0]] * (longest - len(steps)) for steps in programs])
    seeded = torch.Generator().manual_seed(m)
    constants = torch.randn((len(programs), places), generator=seeded, dtype=torch.float64)
    operands = torch.randn((len(programs), places, m), generator=seeded, dtype=torch.float64) * 50
    equal(padded, constants, operands, device)


@pytest.mark.parametrize(
    "steps",
    [
        [[99, 0]],
        [[-1, 0]],
        [[ValueOp.OPERAND, 2]],
        [[ValueOp.CONSTANT, -1]],
        [[ValueOp.ADD, 0]],
        [[ValueOp.OPERAND, 0], [ValueOp.OPERAND, 0]],
        [[ValueOp.NOOP, 0]],
    ],
)
def test_a_program_that_the_reference_refuses_gives_0(steps: list[list[int]], device: torch.device) -> None:
    from meshfold.kernels.gpu.formula import formula_gpu

    operands = torch.ones((1, 2, 3), dtype=torch.float64)
    refused = torch.tensor([steps]), torch.ones((1, 1), dtype=torch.float64), operands
    with pytest.raises(ValueError, match="steps"):
        formula_values(*refused)
    assert formula_gpu(*(t.to(device) for t in refused)).tolist() == [[0.0, 0.0, 0.0]]
