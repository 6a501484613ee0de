import numpy as np
import torch

from meshfold.kernels.bundles import pack
from meshfold.kernels.first_members import first_members

N = 700


def test_it_is_the_first_of_the_order_that_each_set_holds() -> None:
    rng = np.random.default_rng(0)
    order = rng.permutation(N)
    members = rng.random((3, N)) < np.array([[0.5], [0.01], [0.0]])
    sets = torch.stack([pack(torch.from_numpy(row)) for row in members])
    wanted = [20, 50, 50]
    found = first_members(torch.from_numpy(order.astype(np.int32)), sets, torch.tensor(wanted), 50)
    for row, held, most in zip(found.tolist(), members, wanted, strict=True):
        expected = [p for p in order.tolist() if held[p]][:most]
        assert row == expected + [-1] * (50 - len(expected))


def test_who_wants_none_gets_none() -> None:
    everything = pack(torch.ones(N, dtype=torch.bool)).unsqueeze(0)
    found = first_members(torch.arange(N, dtype=torch.int32), everything, torch.tensor([0]), 4)
    assert found.tolist() == [[-1] * 4]


def test_the_operator_is_what_it_is_registered_as() -> None:
    everything = pack(torch.ones(N, dtype=torch.bool)).unsqueeze(0)
    args = (torch.arange(N, dtype=torch.int32), everything, torch.tensor([3]), 5)
    torch.library.opcheck(first_members, args, test_utils=("test_schema", "test_faketensor"))
