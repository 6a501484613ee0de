import numpy as np
import pytest
import torch

from meshfold.kernels.filter.bundles import pack
from meshfold.kernels.filter.first_members import _first_members, first_members

N = 700


def test_it_is_the_first_of_the_order_that_each_set_holds(level: str) -> None:
    rng = np.random.default_rng(0)
    order = rng.permutation(N)
    members = rng.random((5, N)) < np.array([[0.5], [0.01], [0.0], [1.0], [0.5]])
    sets = torch.stack([pack(torch.from_numpy(row)) for row in members])
    wanted = [20, 50, 50, 50, 0]
    found = first_members(torch.from_numpy(order.astype(np.int32)), sets, torch.tensor(wanted), 50)
    for row, held, most in zip(found.tolist(), members, wanted, strict=True):
        expected = [p for p in order.tolist() if held[p]][:most]
        assert row == expected + [-1] * (50 - len(expected))


@pytest.mark.parametrize("n", [1, 63, 64, 512, 513])
def test_all_members_may_be_wanted(level: str, n: int) -> None:
    rng = np.random.default_rng(n)
    order = rng.permutation(n)
    members = rng.random(n) < 0.5
    sets = pack(torch.from_numpy(members)).unsqueeze(0)
    found = first_members(torch.from_numpy(order.astype(np.int32)), sets, torch.tensor([n]), n)
    expected = order[members[order]].tolist()
    assert found[0].tolist() == expected + [-1] * (n - len(expected))


def test_who_wants_none_gets_none(level: str) -> None:
    everything = pack(torch.ones(N, dtype=torch.bool)).unsqueeze(0)
    found = first_members(torch.arange(N, dtype=torch.int32), everything, torch.tensor([0]), 4)
    assert found.tolist() == [[-1] * 4]
    assert first_members(torch.arange(N, dtype=torch.int32), everything, torch.tensor([0]), 0).shape == (1, 0)


def test_what_does_not_fit_is_refused(level: str) -> None:
    everything, order = pack(torch.ones(N, dtype=torch.bool)).unsqueeze(0), torch.arange(N, dtype=torch.int32)
    with pytest.raises(ValueError, match=r"order must be \[N\] int32"):
        first_members(order.long(), everything, torch.tensor([1]), 1)
    with pytest.raises(ValueError, match=r"max_results must be \[1\] int64, got \[2\]"):
        first_members(order, everything, torch.tensor([1, 1]), 1)
    if level != "reference":
        with pytest.raises(ValueError, match="max_results must be from 0 to the columns"):
            first_members(order, everything, torch.tensor([2]), 1)
        for position in (-1, 1024):
            with pytest.raises(ValueError, match=f"order holds position {position}, sets hold 1024"):
                first_members(torch.tensor([position], dtype=torch.int32), everything, torch.tensor([1]), 1)
        with pytest.raises(ValueError, match="order must be contiguous"):
            first_members(torch.stack([order, order], 1)[:, 0], everything, torch.tensor([1]), 1)


def test_the_operator_is_what_it_is_registered_as(level: str) -> None:
    everything = pack(torch.ones(N, dtype=torch.bool)).unsqueeze(0)
    args = (torch.arange(N, dtype=torch.int32), everything, torch.tensor([3]), 5)
    torch.library.opcheck(_first_members.overload, args, test_utils=("test_schema", "test_faketensor"))
