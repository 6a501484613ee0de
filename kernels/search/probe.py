"""The clusters of an IVF index in the order in which a query opens them.

score = float32(code_q . code_c) * scale_c + |code_q| * spread_c        ties go to the smaller cluster

The second term is what a cluster's members may add to its centroid's score: without it, wide clusters are
opened too late.
"""

from __future__ import annotations

import torch
from torch import Tensor

from meshfold.kernels.expect import expect
from meshfold.kernels.search.ordered import keys


def probe_order(queries: Tensor, centroids: Tensor, scales: Tensor, spreads: Tensor) -> Tensor:
    """Clusters, best first: [B, T, C] int64.

    queries: [B, T, D] int8 - codes. centroids: [C, D] int8 - codes. scales: [C] float32.
    spreads: [C] float32 - in the scale of the scales.
    """
    expect("queries", queries, ("B", "T", "D"), torch.int8)
    expect("centroids", centroids, ("C", queries.shape[-1]), torch.int8)
    expect("scales", scales, (centroids.shape[0],), torch.float32)
    expect("spreads", spreads, (centroids.shape[0],), torch.float32)
    # Sums of integers below 2^53 are exact in float64, in whatever order they are added.
    totals = queries.double() @ centroids.double().T
    clusters = torch.arange(centroids.shape[0], device=centroids.device)
    lengths = queries.double().square().sum(-1, keepdim=True).sqrt().float()
    # Two products and a sum, each rounded: an operation that fuses them would order near-ties otherwise.
    scores = totals.float() * scales + lengths * spreads
    return torch.argsort(keys(scores, clusters), dim=-1, descending=True)
