import numpy as np
import pytest
import torch

from meshfold.kernels.filter.bundles import WORDS, count, pack, unpack
from meshfold.kernels.filter.steps import FilterTensors
from meshfold.kernels.search.sample import SAMPLE, of_sample, sample_positions


@pytest.mark.parametrize("n", [0, 1, 511, SAMPLE, SAMPLE + 1, 5000])
def test_what_sampled_items_hold_lies_together(n: int) -> None:
    rng = np.random.default_rng(n)
    rows = [torch.from_numpy(rng.random(n) < share) for share in (0, 0.3, 1)]
    sizes = torch.from_numpy(rng.integers(0, 4, n))
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cumsum(sizes, 0)])
    single, many = torch.arange(n, dtype=torch.int32), torch.arange(int(offsets[-1]))
    signature = torch.stack([pack(row) for row in rows], 1)
    held = of_sample(FilterTensors(signature, [single, many], [offsets[:0], offsets]), n)
    at = sample_positions(n)
    for row, members in enumerate(rows):
        assert torch.equal(unpack(held.signature[:, row], at.numel()), members[at])
        assert torch.equal(held.signature[:, row], pack(members[at]))
    assert torch.equal(held.columns[0], single[at])
    wanted = [many[offsets[p] : offsets[p + 1]].tolist() for p in at.tolist()]
    got = held.offsets[1].tolist()
    assert [held.columns[1][a:b].tolist() for a, b in zip(got, got[1:], strict=False)] == wanted
    assert held.lists is None


@pytest.mark.parametrize("n", [0, 3, 5000])
def test_items_without_fields_have_a_sample(n: int) -> None:
    held = of_sample(FilterTensors(torch.empty((count(n), 0, WORDS), dtype=torch.int64), [], []), n)
    assert held.signature.shape == (count(min(n, SAMPLE)), 0, WORDS)
