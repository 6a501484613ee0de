"""k-means on Int8 codes that gives the same bytes for any number of threads.

Distances come from integer dots, which are exact in whatever order they are added, followed by single
operations an element; sums of members are int64. No float is added to another in an order that could vary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from meshfold.kernels.quantize import Quantized, quantize
from meshfold.model.progress import Progress

# Members of a cluster that its centroid is learnt from: more change little and cost much.
SAMPLE_PER_CLUSTER = 64
# Members that matter lie towards the query, some standard deviations out; 3 opened the right clusters soonest
# on clustered vectors of 100,000 items, 2 and 4 nearly as soon.
SPREAD_WEIGHT = 3.0
_ROWS_AT_A_TIME = 2048
# Below this dimension a dot of Int8 codes stays below 2^24, which float32 holds exactly.
_FLOAT32_DIMENSION = 1040


@dataclass(frozen=True, eq=False)
class Centroids:
    """codes: [C, D] int8. units: [C] float32 - of fine values, as kernels/quantize.py defines them."""

    codes: Tensor
    units: Tensor


@dataclass(frozen=True, eq=False)
class Assigned:
    """members: [n] int64 - the cluster of each item. distances: [n] float32 - squared, to its centroid."""

    members: Tensor
    distances: Tensor


def learn_centroids(
    items: Quantized, clusters: int, iterations: int, seed: int, progress: Progress
) -> Centroids:
    """Lloyd's algorithm on a sample. items: codes [N, D], not all needed. Raises ValueError if C > N."""
    n = items.codes.shape[0]
    if clusters > n:
        raise ValueError(f"{clusters} clusters need as many items, got {n}")
    rng = np.random.Generator(np.random.PCG64(seed))
    size = min(n, clusters * SAMPLE_PER_CLUSTER)
    chosen = torch.from_numpy(np.sort(rng.choice(n, size, replace=False)))
    codes, units = items.codes[chosen], items.units[chosen]
    # Fixed point: values of the sample in units of 2^-30 of the largest, so that sums are integers.
    largest = float(units.max()) * 128 * 256
    step = largest / 2**30 if largest > 0 else 1.0
    fixed = torch.round(codes.double() * (units.double() * 256 / step).unsqueeze(1)).long()
    start = torch.from_numpy(rng.choice(size, clusters, replace=False))
    means = fixed[start].double() * step
    for done in range(iterations):
        progress("clustering", done, iterations)
        members = assign(codes, units, _as_centroids(means)).members
        sums = torch.zeros((clusters, codes.shape[1]), dtype=torch.int64).index_add_(0, members, fixed)
        counts = torch.bincount(members, minlength=clusters)
        means = torch.where(
            (counts > 0).unsqueeze(1), sums.double() / counts.clamp(min=1).unsqueeze(1) * step, means
        )
        means = _refill(means, counts, members, fixed, step)
    progress("clustering", iterations, iterations)
    return _as_centroids(means)


def assign(codes: Tensor, units: Tensor, centroids: Centroids) -> Assigned:
    """The nearest centroid of each item, ties to the smaller.

    codes: [n, D] int8. units: [n] float32.
    """
    exact = torch.float32 if codes.shape[1] <= _FLOAT32_DIMENSION else torch.float64
    table = centroids.codes.to(exact).T.contiguous()
    # |x - c|^2 = |x|^2 - 2 x.c + |c|^2, of which |x|^2 changes nothing; a code is worth 256 units.
    scales = centroids.units.double() * 256
    lengths = (centroids.codes.long().square().sum(1).double() * scales.square()).float()
    scales_32 = scales.float()
    members, distances = [], []
    for part, unit in zip(
        torch.split(codes, _ROWS_AT_A_TIME), torch.split(units, _ROWS_AT_A_TIME), strict=True
    ):
        dots = (part.to(exact) @ table).float()
        closeness = dots.mul_(scales_32).mul_((unit * 512).unsqueeze(1)).sub_(lengths)
        nearest = closeness.max(dim=1)
        own = part.long().square().sum(1).double() * (unit.double() * 256).square()
        members.append(nearest.indices)
        distances.append((own - nearest.values).clamp(min=0).float())
    return Assigned(torch.cat(members), torch.cat(distances))


def spreads(assigned: Assigned, clusters: int, dimension: int) -> Tensor:
    """[C] float32: how far members lie from their centroid in a random direction; see kernels/probe.py.

    The root mean square over members and dimensions, times SPREAD_WEIGHT, in the scale of units.
    """
    largest = float(assigned.distances.max())
    # Fixed point again: int64 sums do not depend on their order.
    step = largest / 2**30 if largest > 0 else 1.0
    fixed = torch.round(assigned.distances.double() / step).long()
    sums = torch.zeros(clusters, dtype=torch.int64).index_add_(0, assigned.members, fixed)
    counts = torch.bincount(assigned.members, minlength=clusters).clamp(min=1)
    return (torch.sqrt(sums.double() * step / (counts * dimension)) * (SPREAD_WEIGHT / 256)).float()


def _as_centroids(means: Tensor) -> Centroids:
    rounded = quantize(means.float())
    return Centroids(rounded.codes, rounded.units)


def _refill(means: Tensor, counts: Tensor, members: Tensor, fixed: Tensor, step: float) -> Tensor:
    """Gives each empty cluster a member of one of the largest clusters to start from."""
    empty = torch.nonzero(counts == 0).squeeze(1)
    if not empty.numel():
        return means
    # Where few distinct items leave fewer donors than empty clusters, the rest stay empty.
    largest = torch.argsort(counts, descending=True, stable=True)[: int((counts > 0).sum())]
    for cluster, donor in zip(empty.tolist(), largest.tolist(), strict=False):
        of_donor = torch.nonzero(members == donor).squeeze(1)
        means[cluster] = fixed[of_donor[-1]].double() * step
    return means
