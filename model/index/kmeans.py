"""k-means on Int8 codes that gives the same bytes for any number of threads.

Distances come from integer dots, which are exact in whatever order they are added, followed by single
operations an element; sums of members are int64. No float is added to another in an order that could vary.
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

# Members of a cluster that its centroid is learnt from: more change little and cost much.
SAMPLE_PER_CLUSTER = 64
# Members that matter lie towards the query, some standard deviations out; 3 opened the right clusters soonest
# on clustered vectors of 100,000 items, 2 and 4 nearly as soon.
SPREAD_WEIGHT = 3.0
_ROWS_AT_A_TIME = 8192


@dataclass(frozen=True, eq=False)
class Centroids:
    """codes: [C, D] int8. scales: [C] float32 - of fine values, as kernels/vectors/quantize.py defines them."""

    codes: Tensor
    scales: Tensor

    def to(self, device: torch.device | str) -> Centroids:
        return Centroids(self.codes.to(device), self.scales.to(device))

    def in_order(self, clusters: Tensor) -> Centroids:
        """Those of given clusters, [n] int64."""
        return Centroids(self.codes[clusters], self.scales[clusters])


@dataclass(frozen=True, eq=False)
class Assigned:
    """members: [n] int64 - the cluster of each item. distances: [n] float32 - squared, to its centroid."""

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
    """Lloyd's algorithm on a sample, which alone is moved to the device; None leaves it where items are.

    items: codes [N, D], not all needed. Raises ValueError if C > N.
    """
    n = items.codes.shape[0]
    if clusters > n:
        raise ValueError(f"{clusters} clusters need as many items, got {n}")
    rng = np.random.Generator(np.random.PCG64(seed))
    size = min(n, clusters * SAMPLE_PER_CLUSTER)
    chosen = torch.from_numpy(np.sort(rng.choice(n, size, replace=False)))
    codes, scales = items.codes[chosen].to(device), items.scales[chosen].to(device)
    # Fixed point: values of the sample in units of 2^-30 of the largest, so that sums are integers.
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
    # |x - c|^2 is |x|^2 less the closeness; a code is worth 256 units.
    for start in range(0, codes.shape[0], _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        own = codes[part].int().square().sum(1).double() * (scales[part].double() * 256).square()
        distances[part] = (own - closeness[part]).clamp(min=0).float()
    return Assigned(members, distances)


def spreads(assigned: Assigned, clusters: int, dimension: int) -> Tensor:
    """[C] float32: how far members lie from their centroid in a random direction; see kernels/search/probe.py.

    The root mean square over members and dimensions, times SPREAD_WEIGHT, in the scale of units.
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
    """[] float64 beside a tensor: by a number of the host, CUDA multiplies with its reciprocal instead of dividing."""
    return torch.tensor(number, dtype=torch.float64, device=like.device)


def _as_centroids(means: Tensor) -> Centroids:
    rounded = quantize(means.float())
    return Centroids(rounded.codes, rounded.scales)


def _fixed(codes: Tensor, factors: Tensor) -> Tensor:
    """[..., D] float64 integers, as kernels/vectors/cluster_sums.py adds them. codes: [..., D] int8. factors: [...]
    float64."""
    return torch.round(codes.double() * factors.unsqueeze(-1))


def _refills(counts: Tensor, members: Tensor) -> list[tuple[int, int]]:
    """Gives each empty cluster a member of one of the largest clusters to start from: (cluster, item)."""
    empty = torch.nonzero(counts == 0).squeeze(1)
    if not empty.numel():
        return []
    # Where few distinct items leave fewer donors than empty clusters, the rest stay empty.
    largest = torch.argsort(counts, descending=True, stable=True)[: int((counts > 0).sum())]
    pairs = zip(empty.tolist(), largest.tolist(), strict=False)
    return [(cluster, int(torch.nonzero(members == donor)[-1])) for cluster, donor in pairs]
