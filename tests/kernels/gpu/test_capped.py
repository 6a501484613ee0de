import numpy as np
import torch
from torch import Tensor

from meshfold.kernels.filter.bundles import pack
from meshfold.kernels.filter.capped import capped_reference
from meshfold.kernels.filter.steps import FilterTensors

N = 600
ENDS = [-(2**63), -1, 0, 1, 2, 2**31, 2**63 - 1]


def tensors(device: torch.device) -> FilterTensors:
    """One of five integers or nothing; up to three of nine; up to six of any size; a value of its own for each item."""
    rng = np.random.default_rng(0)
    one = [[int(rng.integers(5))] if rng.random() < 0.8 else [] for _ in range(N)]
    many = [sorted({*rng.integers(0, 9, rng.integers(0, 4)).tolist()}) for _ in range(N)]
    sized = [sorted({ENDS[i] for i in rng.integers(0, 7, rng.integers(0, 7))}) for _ in range(N)]
    none = torch.empty(0, dtype=torch.int64)
    fields = (one, many, sized, [[i] for i in range(N)])
    signature = torch.stack([pack(torch.tensor([bool(v) for v in field])) for field in fields], 1)
    columns = [
        torch.tensor([v[0] if v else 0 for v in one], dtype=torch.int32),
        torch.tensor([v for row in many for v in row], dtype=torch.int32),
        torch.tensor([v for row in sized for v in row]),
        # Of some two hundred values that share a bucket, more than it holds; each is of three items.
        torch.arange(N) // 3 * 2**40,
    ]
    offsets = [none, *(torch.tensor([0, *map(len, field)]).cumsum(0) for field in (many, sized)), none]
    return FilterTensors(
        signature.to(device), [c.to(device) for c in columns], [o.to(device) for o in offsets]
    )


def run(held: FilterTensors, positions: Tensor, fields: list[int], limits: list[int]) -> Tensor:
    from meshfold.kernels.gpu.capped import capped_gpu

    device = held.signature.device
    at = positions.to(device)
    return capped_gpu(held, at, torch.tensor(fields, device=device), torch.tensor(limits, device=device), N)


def test_it_is_the_reference(device: torch.device) -> None:
    rng = np.random.default_rng(1)
    positions = torch.from_numpy(np.stack([rng.permutation(N)[:70] for _ in range(8)]))
    positions[1, 50:] = -1
    fields, limits = [0, 1, -1, 1, 2, 2, 0, 1], [3, 2, 0, 1, 20, 2**62, 0, -1]
    found = run(tensors(device), positions, fields, limits)
    held = tensors(torch.device("cpu"))
    assert torch.equal(
        found.cpu(), capped_reference(held, positions, torch.tensor(fields), torch.tensor(limits), N)
    )
    assert found.dtype == torch.bool
    assert 0 < found.sum() < found.numel()


def test_more_values_than_a_bucket_holds_are_counted_all_the_same(device: torch.device) -> None:
    positions = torch.from_numpy(np.random.default_rng(2).permutation(N)[:290]).unsqueeze(0)
    held = tensors(torch.device("cpu"))
    wanted = capped_reference(held, positions, torch.tensor([3]), torch.tensor([1]), N)
    found = run(tensors(device), positions, [3], [1])
    assert torch.equal(found.cpu(), wanted)
    assert 32 < found.sum() < 290


def test_what_does_not_exist_caps_nothing_and_never_stays(device: torch.device) -> None:
    positions = torch.tensor([[0, 5, N, 2**40, -1]] * 3)
    found = run(tensors(device), positions, [4, 2**62, 0], [0, 0, 9])
    assert found.tolist() == [[True, True, False, False, False]] * 3


def test_no_results_and_no_fields(device: torch.device) -> None:
    held = tensors(device)
    assert run(held, torch.empty((2, 0), dtype=torch.int64), [0, 0], [1, 1]).shape == (2, 0)
    none = FilterTensors(held.signature, [], [])
    assert run(none, torch.tensor([[3, -1]]), [0], [0]).tolist() == [[True, False]]
