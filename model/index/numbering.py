"""Numbering of clusters in which near clusters have near numbers.

A query opens clusters that are close together, and items are stored in the order of clusters. With this numbering a
query reads fewer and longer stretches of memory, half as many as with random numbers. Sequential reads are much faster
than jumps, and a bundle of the filter that two opened clusters share is evaluated once.
"""

from __future__ import annotations

from math import isqrt

import numpy as np
import torch
from torch import Tensor

from meshfold.kernels.vectors.quantize import Quantized
from meshfold.model.index.kmeans import Centroids, assign, learn_centroids
from meshfold.model.progress import silent
from meshfold.model.types import Float64s, Int64s

_ITERATIONS = 4
# Limit of members of a group that are compared with each other at a time.
_LONGEST = 1024


def side_by_side(centroids: Centroids, seed: int) -> Tensor:
    """[C] int64: the clusters in the order of their new numbers. centroids: on the CPU.

    Clusters form about sqrt(C) groups by k-means. Groups are chained, each to its nearest remaining group, and so are
    the clusters of each group. Distances come from exact integer dot products, so that the order is the same on every
    machine; ties go to the smaller number.
    """
    groups = isqrt(centroids.codes.shape[0])
    items = Quantized(centroids.codes, torch.zeros_like(centroids.codes), centroids.scales)
    middles = learn_centroids(items, groups, _ITERATIONS, seed, silent)
    members = assign(centroids.codes, centroids.scales, middles).members.numpy()
    order: list[Int64s] = []
    for group in _chain(middles, 0):
        of_group = np.flatnonzero(members == group)
        for part in np.split(of_group, range(_LONGEST, len(of_group), _LONGEST)):
            if len(part):
                own = centroids.in_order(torch.from_numpy(part))
                first = 0
                if order:
                    last = centroids.in_order(torch.from_numpy(order[-1][-1:]))
                    first = int(_closeness(last, own)[0].argmax())
                order.append(part[_chain(own, first)])
    return torch.from_numpy(np.concatenate(order))


def _chain(centroids: Centroids, first: int) -> Int64s:
    """[n] int64: a permutation that begins with `first`; each element is followed by its nearest remaining one."""
    n = centroids.codes.shape[0]
    closeness = _closeness(centroids, centroids)
    chain = np.empty(n, np.int64)
    for place in range(n):
        chain[place] = first
        closeness[:, first] = -np.inf
        first = int(closeness[first].argmax())
    return chain


def _closeness(of: Centroids, to: Centroids) -> Float64s:
    """[of, to] float64: 2 x . y - |y|^2, which is larger for nearer pairs; |x|^2 does not change the order."""
    # Sums of integers below 2^53 are exact in any order; each factor is rounded on its own.
    own, others = of.codes.double().numpy(), to.codes.double().numpy()
    units = to.scales.double().numpy()
    squares = np.square(others).sum(1)
    closeness: Float64s = 2 * (own @ others.T) * of.scales.double().numpy()[
        :, None
    ] * units - squares * np.square(units)
    return closeness
