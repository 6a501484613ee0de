from __future__ import annotations

import pytest
import torch

from meshfold.kernels.search.probe import probe_order

Q, D = 17, 3


@pytest.mark.parametrize("clusters", [1, 63, 65, 4096, 4097])
def test_clusters_of_one_score_come_in_their_order(clusters: int, device: torch.device) -> None:
    """Few codes and scales, so that most scores tie, and zeros of either sign. Torch sorts rows past 4,096
    otherwise."""
    from meshfold.kernels.gpu.probe import probe_order as probe_order_gpu

    random = torch.Generator().manual_seed(clusters)
    queries = torch.randint(-2, 3, (Q, D), generator=random).to(torch.int8)
    centroids = torch.randint(-2, 3, (clusters, D), generator=random).to(torch.int8)
    scales = torch.randint(0, 2, (clusters,), generator=random).float()
    spreads = torch.zeros(clusters)
    order = probe_order_gpu(*(x.to(device) for x in (queries, centroids, scales, spreads)))
    assert order.dtype == torch.int64
    assert torch.equal(order.cpu(), probe_order(queries.unsqueeze(0), centroids, scales, spreads)[0])
