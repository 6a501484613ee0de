import numpy as np
import pytest
import torch

from meshfold.kernels.bundles import cardinality, pack, unpack
from meshfold.kernels.eligible import eligible
from meshfold.kernels.filter_program import Op


@pytest.mark.parametrize("n", [1, 63, 512, 513, 1000])
def test_it_is_the_filter_less_the_excluded(n: int) -> None:
    """Field 0 is an integer, hashed to the rows of its presence: the signature tells nothing of its values."""
    rng = np.random.default_rng(n)
    years = rng.integers(0, 4, n)
    there = rng.random(n) < 0.7
    signature = pack(torch.from_numpy(there)).unsqueeze(1)
    steps = torch.tensor(
        [
            [[Op.MATCH, 0, 0, 2], [Op.NOT, 0, 0, 0]],
            [[Op.RANGE, 0, 0, 2], [Op.NOOP, 0, 0, 0]],
            [[Op.CONSTANT, 1, 0, 0], [Op.NOOP, 0, 0, 0]],
        ]
    )
    excluded = torch.tensor([[0, -1], [-1, -1], [n - 1, 0]])
    passed = eligible(
        signature,
        [torch.from_numpy(years)],
        [torch.empty(0, dtype=torch.int64)],
        steps,
        torch.tensor([[1, 3]] * 3),
        torch.zeros((3, 2, 1), dtype=torch.int64),
        excluded,
        n,
    )
    left = np.ones((3, n), bool)
    left[0, 0] = left[2, n - 1] = left[2, 0] = False
    matches = there & np.isin(years, [1, 3])
    between = there & (years >= 1) & (years <= 3)
    expected = np.stack([~matches, between, np.ones(n, bool)]) & left
    for b in range(3):
        assert unpack(passed[b], passed[b].numel() * 64)[n:].sum() == 0
        assert unpack(passed[b], n).tolist() == expected[b].tolist()
    assert cardinality(passed).tolist() == expected.sum(1).tolist()


def test_cardinality_counts_every_bit() -> None:
    members = torch.from_numpy(np.random.default_rng(0).random((5, 2000)) < 0.9)
    members[1], members[2] = True, False
    sets = torch.stack([pack(row) for row in members])
    assert cardinality(sets).tolist() == members.sum(1).tolist()


def test_the_operator_is_what_it_is_registered_as() -> None:
    nothing = torch.empty((1, 0), dtype=torch.int64)
    steps = torch.tensor([[[Op.CONSTANT, 1, 0, 0]]])
    signature = torch.zeros((1, 0, 8), dtype=torch.int64)
    none: list[torch.Tensor] = []
    args = (signature, none, none, steps, nothing, nothing.unsqueeze(2), nothing, 100)
    torch.library.opcheck(eligible, args, test_utils=("test_schema", "test_faketensor"))
