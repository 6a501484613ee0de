"""The reference of kernels/search.py in plain torch, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from meshfold.kernels.bundles import unpack
from meshfold.kernels.coarse import coarse_values
from meshfold.kernels.eligible import eligible_reference
from meshfold.kernels.filter_exact import filter_exact
from meshfold.kernels.filter_program import FilterTensors, Programs
from meshfold.kernels.ordered import best, keys
from meshfold.kernels.probe import probe_order
from meshfold.kernels.quantize import quantize_reference
from meshfold.kernels.ragged import ranges
from meshfold.kernels.rescore import rescore_reference
from meshfold.kernels.sample import sample_positions
from meshfold.kernels.search_tensors import Found, IvfTensors, Limits

# Items scored at a time: what bounds the float64 copy of their codes.
_CHUNK = 16_384


def search_reference(
    vectors: Tensor, ivf: IvfTensors, filter_: FilterTensors, programs: Programs, limits: Limits, k: int
) -> Found:
    """As search()."""
    if ((limits.depth < 0) | (limits.depth > k)).any():
        raise ValueError("depth must lie from 0 to k")
    if ((limits.budget < 0) | (limits.probes < 0)).any():
        raise ValueError("budget and probes must not be negative")
    if ivf.offsets[0] != 0 or ivf.offsets[-1] != ivf.codes.shape[0] or (ivf.offsets.diff() < 0).any():
        raise ValueError("offsets must ascend from 0 to N")
    b, t, _ = vectors.shape
    n, c = ivf.codes.shape[0], ivf.offsets.numel() - 1
    device = vectors.device
    codes, residuals, units = quantize_reference(vectors)
    positions = torch.full((b, t, k), -1, dtype=torch.int64, device=device)
    similarities = torch.zeros((b, t, k), dtype=torch.float32, device=device)
    opened = torch.zeros((b, t), dtype=torch.int64, device=device)
    scored = torch.zeros((b, t), dtype=torch.int64, device=device)
    wanted = torch.ones(b, dtype=torch.bool, device=device)
    survivors = eligible_reference(filter_, programs, wanted, n).bits
    order = probe_order(codes, ivf.centroids, ivf.centroid_units, ivf.centroid_spreads)
    for i in range(b):
        passed = torch.nonzero(unpack(survivors[i], n)).squeeze(1)
        # first[c] survivors lie before cluster c.
        first = torch.searchsorted(passed, ivf.offsets)
        held = first.diff()
        budget, most = int(limits.budget[i]), min(int(limits.probes[i]), c)
        for j in range(t):
            so_far = torch.cumsum(held[order[i, j]], 0)
            # One more cluster than those that leave the budget unmet; all of them where it cannot be met.
            p = min(int(torch.searchsorted(so_far, budget)) + 1, most)
            clusters = order[i, j, :p]
            chosen = passed[ranges(first[clusters], held[clusters])]
            depth = int(limits.depth[i])
            surely = min(max(int(limits.tensors()[3][i]), 0), depth) * limits.rescored
            pool = _pool(codes[i, j], chosen, ivf, max(depth, surely))
            one = slice(i, i + 1), slice(j, j + 1)
            compared = rescore_reference(
                *(codes[one], residuals[one], units[one]),
                *(ivf.codes, ivf.residuals, ivf.units),
                pool.unsqueeze(0),
            )[0, 0]
            _, kept = best(keys(compared, ivf.rows[pool].long()), depth)
            positions[i, j, : kept.numel()] = pool[kept]
            similarities[i, j, : kept.numel()] = compared[kept]
            opened[i, j] = p
            scored[i, j] = chosen.numel()
    return Found(positions, similarities, opened, scored, _sampled(filter_, programs, n))


def _sampled(filter_: FilterTensors, programs: Programs, items: int) -> Tensor:
    at = sample_positions(items, programs.steps.device)
    counts = []
    for steps, values, excluded in zip(programs.steps, programs.values, programs.excluded, strict=True):
        passed = filter_exact(filter_.signature, filter_.columns, filter_.offsets, steps, values, at)
        counts.append((passed & ~torch.isin(at, excluded)).sum())
    return torch.stack(counts) if counts else programs.steps.new_empty(0)


def _pool(query: Tensor, chosen: Tensor, ivf: IvfTensors, size: int) -> Tensor:
    held_keys = torch.empty(0, dtype=torch.int64, device=query.device)
    held = torch.empty(0, dtype=torch.int64, device=query.device)
    exact_query = query.double()
    for part in torch.split(chosen, _CHUNK):
        # Sums of integers below 2^53 are exact in float64, in whatever order they are added.
        totals = coarse_values(ivf.codes[part]) @ exact_query
        scores = totals.float() * ivf.units[part]
        held_keys = torch.cat([held_keys, keys(scores, ivf.rows[part].long())])
        held = torch.cat([held, part])
        held_keys, indices = best(held_keys, size)
        held = held[indices]
    return held
