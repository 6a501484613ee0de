import pytest
import torch

from meshfold.kernels.filter.bundles import pack
from meshfold.kernels.filter.first_members import first_members_reference


@pytest.mark.parametrize("n", [1, 63, 513, 4096, 9001])
def test_it_is_the_reference(n: int, device: torch.device) -> None:
    from meshfold.kernels.gpu.first_members import first_members_gpu

    random = torch.Generator().manual_seed(n)
    order = torch.randperm(n, generator=random).int()
    shares = (0.5, 0.01, 0.0, 1.0, 0.5, 1.0)
    sets = torch.stack([pack(torch.rand(n, generator=random) < share) for share in shares])
    k = min(n, 5000)
    wanted = torch.tensor([k, k, k, k, 0, min(k, 3)])
    found = first_members_gpu(order.to(device), sets.to(device), wanted.to(device), k)
    assert torch.equal(found.cpu(), first_members_reference(order, sets, wanted, k))
    assert (found[3] >= 0).all()


def test_no_columns_and_no_items(device: torch.device) -> None:
    from meshfold.kernels.gpu.first_members import first_members_gpu

    sets = pack(torch.ones(5, dtype=torch.bool)).unsqueeze(0).to(device)
    order, none = (
        torch.arange(5, dtype=torch.int32, device=device),
        torch.zeros(1, dtype=torch.int64, device=device),
    )
    assert first_members_gpu(order, sets, none, 0).shape == (1, 0)
    assert first_members_gpu(order[:0], sets[:, :0], none + 2, 2).tolist() == [[-1, -1]]
    assert first_members_gpu(order, sets, none + 9, 2).tolist() == [[0, 1]]
