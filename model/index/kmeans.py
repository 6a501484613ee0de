"""k-means on int8 codes with the same bytes for any number of threads.

Distances are integer dot products, whose sums are exact in any order, followed by elementwise operations. Sums of
members are int64. No sum of floats has an order that could vary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from meshfold.kernels.vectors.assign import assign as nearest
from meshfold.kernels.vectors.cluster_sums import cluster_sums
from meshfold.kernels.vectors.quantize import Quantized, quantize
from meshfold.model.progress import Progress

# Sampled items for each cluster of training; more change centroids little and take longer.
SAMPLE_PER_CLUSTER = 64
# Standard deviations that a cluster's best members are assumed to lie from the centroid, towards the query. 3 opened
# the right clusters first on clustered vectors of 100,000 items; 2 and 4 were nearly as good.
SPREAD_WEIGHT = 3.0
_ROWS_AT_A_TIME = 8192


@dataclass(frozen=True, eq=False)
class Centroids:
    """Quantised centroids. codes: [C, D] int8. scales: [C] float32 - of fine values (kernels/vectors/quantize.py)."""

    codes: Tensor
    scales: Tensor

    def to(self, device: torch.device | str) -> Centroids:
        return Centroids(self.codes.to(device), self.scales.to(device))

    def in_order(self, clusters: Tensor) -> Centroids:
        """The centroids of the given clusters, [n] int64, in that order."""
        return Centroids(self.codes[clusters], self.scales[clusters])


@dataclass(frozen=True, eq=False)
class Assigned:
    """Clusters of items. members: [n] int64 - clusters. distances: [n] float32 - squared distances to centroids."""

    members: Tensor
    distances: Tensor


def learn_centroids(
    items: Quantized,
    clusters: int,
    iterations: int,
    seed: int,
    progress: Progress,
    device: torch.device | None = None,
) -> Centroids:
    """Lloyd's algorithm on a sample of SAMPLE_PER_CLUSTER items a cluster, or all items where there are fewer.

    items: codes [N, D]. device: of the sample; None for that of the items. Raises ValueError if clusters exceed items.
    """
    n = items.codes.shape[0]
    if clusters > n:
        raise ValueError(f"{clusters} clusters need as many items, got {n}")
    rng = np.random.Generator(np.random.PCG64(seed))
    size = min(n, clusters * SAMPLE_PER_CLUSTER)
    chosen = torch.from_numpy(np.sort(rng.choice(n, size, replace=False)))
    codes, scales = items.codes[chosen].to(device), items.scales[chosen].to(device)
    # Fixed point: values of the sample as multiples of 2^-30 of the largest, so that sums are integers.
    largest = float(scales.max()) * 128 * 256
    step = _on(scales, largest / 2**30 if largest > 0 else 1.0)
    factors = scales.double() * 256 / step
    start = torch.from_numpy(rng.choice(size, clusters, replace=False))
    means = _fixed(codes[start], factors[start]) * step
    for done in range(iterations):
        progress("clustering", done, iterations)
        now = _as_centroids(means)
        members, _ = nearest(codes, scales, now.codes, now.scales)
        sums = cluster_sums(codes, factors, members, clusters)
        counts = torch.bincount(members, minlength=clusters)
        means = torch.where(
            (counts > 0).unsqueeze(1), sums.double() / counts.clamp(min=1).unsqueeze(1) * step, means
        )
        for cluster, item in _refills(counts, members):
            means[cluster] = _fixed(codes[item], factors[item]) * step
    progress("clustering", iterations, iterations)
    return _as_centroids(means)


def assign(codes: Tensor, scales: Tensor, centroids: Centroids) -> Assigned:
    """The nearest centroid of each item, ties to the smaller.

    codes: [n, D] int8. scales: [n] float32.
    """
    members, closeness = nearest(codes, scales, centroids.codes, centroids.scales)
    distances = torch.empty_like(closeness)
    # |x - c|^2 is |x|^2 less the closeness; 1 of a code is 256 of a fine value.
    for start in range(0, codes.shape[0], _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        own = codes[part].int().square().sum(1).double() * (scales[part].double() * 256).square()
        distances[part] = (own - closeness[part]).clamp(min=0).float()
    return Assigned(members, distances)


def spreads(assigned: Assigned, clusters: int, dimension: int) -> Tensor:
    """[C] float32: the spread of each cluster's members around its centroid; see kernels/search/probe.py.

    The root mean square over members and dimensions, times SPREAD_WEIGHT, in the scale of codes.
    """
    largest = float(assigned.distances.max())
    # Fixed point again: int64 sums do not depend on their order.
    step = _on(assigned.distances, largest / 2**30 if largest > 0 else 1.0)
    fixed = torch.round(assigned.distances.double() / step).long()
    sums = torch.zeros(clusters, dtype=torch.int64, device=fixed.device)
    sums.index_add_(0, assigned.members, fixed)
    counts = torch.bincount(assigned.members, minlength=clusters).clamp(min=1)
    return (torch.sqrt(sums.double() * step / (counts * dimension)) * (SPREAD_WEIGHT / 256)).float()


def _on(like: Tensor, number: float) -> Tensor:
    """[] float64 on a tensor's device. CUDA divides exactly by a tensor, and by a host's number inexactly."""
    return torch.tensor(number, dtype=torch.float64, device=like.device)


def _as_centroids(means: Tensor) -> Centroids:
    rounded = quantize(means.float())
    return Centroids(rounded.codes, rounded.scales)


def _fixed(codes: Tensor, factors: Tensor) -> Tensor:
    """[..., D] float64 - integers in fixed point, the terms of kernels/vectors/cluster_sums.py.

    codes: [..., D] int8. factors: [...] float64.
    """
    return torch.round(codes.double() * factors.unsqueeze(-1))


def _refills(counts: Tensor, members: Tensor) -> list[tuple[int, int]]:
    """Pairs (empty cluster, item to start from); the items are members of the largest clusters, one of each."""
    empty = torch.nonzero(counts == 0).squeeze(1)
    if not empty.numel():
        return []
    # With few distinct items there can be fewer donors than empty clusters; the others stay empty.
    largest = torch.argsort(counts, descending=True, stable=True)[: int((counts > 0).sum())]
    pairs = zip(empty.tolist(), largest.tolist(), strict=False)
    return [(cluster, int(torch.nonzero(members == donor)[-1])) for cluster, donor in pairs]
