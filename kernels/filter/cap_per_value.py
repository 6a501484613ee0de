"""At most `limit` results with a value, greedily from the best down."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from meshfold.kernels.expect import expect


def cap_per_value(lengths: Tensor, values: Tensor, limit: int) -> Tensor:
    """[K] bool, which of K ordered results stay: a result stays if each of its values was kept fewer than
    `limit` times before it. Results without a value always stay.

    lengths: [K] int64 - how many of `values` each result has, in order. values: [sum(lengths)] int64.
    """
    expect("lengths", lengths, ("K",), torch.int64)
    expect("values", values, (int(lengths.sum()),), torch.int64)
    kept: Counter[int] = Counter()
    stays = []
    flat = iter(values.tolist())
    for length in lengths.tolist():
        own = [next(flat) for _ in range(length)]
        stays.append(all(kept[value] < limit for value in own))
        if stays[-1]:
            kept.update(own)
    return torch.tensor(stays, dtype=torch.bool, device=lengths.device)
