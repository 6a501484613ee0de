"""Items whose addresses pass 2^31; see hard_cases.py."""

from __future__ import annotations

import numpy as np
import torch

from meshfold.kernels.filter.bundles import pack
from meshfold.kernels.filter.steps import FilterTensors, Op
from meshfold.kernels.search.coarse import pack_coarse
from meshfold.kernels.search.tensors import IvfTensors, Limits
from tests.kernels.hard_filters import ALL, programs
from tests.kernels.search_cases import HUGE, SearchCase, int8, sparse

FAR_DIMENSION = 8192
# Half as many bytes of coarse codes, which pass 2^31 as well.
FAR_ITEMS = 2**32 // FAR_DIMENSION + 1500


def past_two_gigabytes() -> SearchCase:
    """Codes whose addresses pass 2^31, of which only the last are ever read."""
    rng = np.random.default_rng(0)
    n, d, far = FAR_ITEMS, FAR_DIMENSION, 1200
    sizes = np.array([n // 2, n - n // 2 - far, 500, 0, 400, 300])
    codes, residuals, coarse = sparse(n, d), sparse(n, d), sparse(n, d // 2).view(torch.uint8)
    codes[n - far :] = int8(rng, (far, d), "any")
    residuals[n - far :] = int8(rng, (far, d), "any")
    coarse[n - far :] = pack_coarse(codes[n - far :])
    centroids = torch.zeros((6, d), dtype=torch.int8)
    centroids[2:] = int8(rng, (4, d), "any")
    queries = torch.cat([centroids[4:5], centroids[2:3], centroids[5:]]).unsqueeze(1)
    years = torch.zeros(n, dtype=torch.int32)
    years[n - far :] = torch.from_numpy(rng.integers(1, 5, far).astype(np.int32))
    has_year = pack(torch.ones(n, dtype=torch.bool))
    empty = torch.empty(0, dtype=torch.int64)
    return SearchCase(
        vectors=queries.float(),
        ivf=IvfTensors(
            centroids,
            torch.ones(6),
            torch.zeros(6),
            torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)),
            codes,
            residuals,
            torch.ones(n),
            torch.arange(n, dtype=torch.int32).flip(0),
            coarse,
        ),
        filter=FilterTensors(has_year.unsqueeze(1), [years], [empty]),
        # Every item and the best clusters; those of a year that only far items have, in all clusters; a mixture.
        programs=programs(
            [ALL, ((Op.RANGE, 0, 0, (1, 2)),), ((Op.RANGE, 0, 0, (3, 9)),)], [[], [], [n - 1, n - 1]]
        ),
        limits=Limits(
            torch.tensor([350, HUGE, 500]), torch.tensor([1, 6, 3]), torch.tensor([350, 500, 40]), 2
        ),
        k=1200,
    )
