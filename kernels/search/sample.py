"""The fixed sample of items from which a filter's pass rate is estimated: at even distances.

The values of the sampled items are in tables of their own, so that a native kernel filters a catalog of 1,024 items
instead of reading 1,024 places of a large one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from meshfold.kernels.filter.bundles import ITEMS, WORDS, count
from meshfold.kernels.filter.ragged import ranges
from meshfold.kernels.filter.steps import FilterTensors

# Items from which a pass rate is estimated.
SAMPLE = 1024


def sample_positions(items: int, device: torch.device | str = "cpu") -> Tensor:
    """[min(N, SAMPLE)] int64: the sample, ascending."""
    size = min(items, SAMPLE)
    return torch.arange(1, 2 * size + 1, 2, device=device) * items // (2 * max(size, 1))


def of_sample(filter_: FilterTensors, items: int) -> FilterTensors:
    """The values of the sampled items, without posting lists, which change no answer. items: N."""
    at = sample_positions(items)
    words = filter_.signature[at // ITEMS, :, at // 64 % WORDS]
    columns, offsets = [], []
    for column, of_field in zip(filter_.columns, filter_.offsets, strict=True):
        if of_field.numel():
            sizes = of_field[at + 1] - of_field[at]
            columns.append(column[ranges(of_field[at], sizes)])
            offsets.append(torch.cat([sizes.new_zeros(1), torch.cumsum(sizes, 0)]))
        else:
            columns.append(column[at])
            offsets.append(of_field)
    return FilterTensors(_packed(words >> (at % 64).unsqueeze(1) & 1), columns, offsets)


def _packed(bits: Tensor) -> Tensor:
    """[G, R, 8] int64. bits: [N, R] int64, each 0 or 1."""
    n, rows = bits.shape
    padded = bits.new_zeros((count(n) * ITEMS, rows))
    padded[:n] = bits
    shifted = padded.view(count(n), WORDS, 64, rows) << torch.arange(64).view(64, 1)
    # The bits are disjoint, so that the sum is their union; it wraps into the sign bit as it should.
    return shifted.sum(2).transpose(1, 2).contiguous()
