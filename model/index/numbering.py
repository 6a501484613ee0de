"""Clusters numbered so that those near one another follow one another.

A query opens clusters that lie close together. Items lie in the order of their clusters, so that what a query reads is
fewer and longer stretches of memory where neighbours have consecutive numbers: half as many as where numbers are drawn.
Processors begin to read elsewhere much more slowly than they read on, and bundles of the filter that two opened
clusters share are evaluated once.
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
# Members of a group that are compared each with each; of more, so many at a time.
_LONGEST = 1024


def side_by_side(centroids: Centroids, seed: int) -> Tensor:
    """[C] int64: the clusters in the order of their new numbers. centroids: in the CPU's memory.

    Group by group, in each from one cluster to the nearest that is left. Groups are as many as each has members,
    about, and follow one another in the same way. Distances are compared from exact integer dots, so that the order
    is the same on every machine; ties go to the smaller number.
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
    """[n] int64: all of n from the first on, each followed by the nearest that is left."""
    n = centroids.codes.shape[0]
    closeness = _closeness(centroids, centroids)
    chain = np.empty(n, np.int64)
    for place in range(n):
        chain[place] = first
        closeness[:, first] = -np.inf
        first = int(closeness[first].argmax())
    return chain


def _closeness(of: Centroids, to: Centroids) -> Float64s:
    """[of, to] float64: the larger, the nearer: 2 x . y - |y|^2, as |x|^2 changes no order."""
    # Sums of integers below 2^53, exact in whatever order they are added; each factor is rounded on its own.
    own, others = of.codes.double().numpy(), to.codes.double().numpy()
    units = to.scales.double().numpy()
    squares = np.square(others).sum(1)
    closeness: Float64s = 2 * (own @ others.T) * of.scales.double().numpy()[
        :, None
    ] * units - squares * np.square(units)
    return closeness
