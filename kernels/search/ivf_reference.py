"""The reference of kernels/search/ivf_search.py in plain torch, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from meshfold.kernels.filter.bundles import unpack
from meshfold.kernels.filter.eligible import eligible_reference
from meshfold.kernels.filter.exact import filter_exact
from meshfold.kernels.filter.ragged import ranges
from meshfold.kernels.filter.steps import FilterBatch, FilterTensors
from meshfold.kernels.search.coarse import coarse_values
from meshfold.kernels.search.ordered import best, keys
from meshfold.kernels.search.probe import probe_order
from meshfold.kernels.search.rescore import rescore_reference
from meshfold.kernels.search.sample import sample_positions
from meshfold.kernels.search.tensors import Found, IvfTensors, Limits
from meshfold.kernels.vectors.quantize import Quantized, quantize_reference

# Items scored at a time: what bounds the float64 copy of their codes.
_CHUNK = 16_384


def search_reference(
    vectors: Tensor,
    ivf: IvfTensors,
    filter_: FilterTensors,
    filters: FilterBatch,
    limits: Limits,
    most_candidates: int,
) -> Found:
    """Every level gives these bytes."""
    if ((limits.candidates < 0) | (limits.candidates > most_candidates)).any():
        raise ValueError("candidates must be from 0 to the columns of the result")
    if ((limits.budget < 0) | (limits.probes < 0)).any():
        raise ValueError("budget and probes must not be negative")
    if ivf.offsets[0] != 0 or ivf.offsets[-1] != ivf.codes.shape[0] or (ivf.offsets.diff() < 0).any():
        raise ValueError("offsets must ascend from 0 to N")
    b, t, _ = vectors.shape
    n, c = ivf.codes.shape[0], ivf.offsets.numel() - 1
    device = vectors.device
    queries = quantize_reference(vectors)
    positions = torch.full((b, t, most_candidates), -1, dtype=torch.int64, device=device)
    similarities = torch.zeros((b, t, most_candidates), dtype=torch.float32, device=device)
    opened = torch.zeros((b, t), dtype=torch.int64, device=device)
    scored = torch.zeros((b, t), dtype=torch.int64, device=device)
    needed = torch.ones(b, dtype=torch.bool, device=device)
    survivors = eligible_reference(filter_, filters, needed, n).bits
    order = probe_order(queries.codes, ivf.centroids, ivf.centroid_scales, ivf.centroid_spreads)
    for i in range(b):
        passed = torch.nonzero(unpack(survivors[i], n)).squeeze(1)
        # first[c] survivors lie before cluster c.
        first = torch.searchsorted(passed, ivf.offsets)
        in_cluster = first.diff()
        budget, most_clusters = int(limits.budget[i]), min(int(limits.probes[i]), c)
        for j in range(t):
            so_far = torch.cumsum(in_cluster[order[i, j]], 0)
            # One more cluster than those that leave the budget unmet; all of them where it cannot be met.
            p = min(int(torch.searchsorted(so_far, budget)) + 1, most_clusters)
            clusters = order[i, j, :p]
            chosen = passed[ranges(first[clusters], in_cluster[clusters])]
            candidates = int(limits.candidates[i])
            compared = min(max(int(limits.tensors()[3][i]), 0), candidates) * limits.rescored
            pool = _pool(queries.codes[i, j], chosen, ivf, max(candidates, compared))
            one = slice(i, i + 1), slice(j, j + 1)
            query = Quantized(queries.codes[one], queries.residuals[one], queries.scales[one])
            items = Quantized(ivf.codes, ivf.residuals, ivf.scales)
            of_pool = rescore_reference(query, items, pool.unsqueeze(0))[0, 0]
            _, kept = best(keys(of_pool, ivf.rows[pool].long()), candidates)
            positions[i, j, : kept.numel()] = pool[kept]
            similarities[i, j, : kept.numel()] = of_pool[kept]
            opened[i, j] = p
            scored[i, j] = chosen.numel()
    return Found(positions, similarities, opened, scored, _sampled(filter_, filters, n))


def _sampled(filter_: FilterTensors, filters: FilterBatch, items: int) -> Tensor:
    at = sample_positions(items, filters.steps.device)
    counts = []
    for steps, values, excluded in zip(filters.steps, filters.values, filters.excluded, strict=True):
        passed = filter_exact(filter_.signature, filter_.columns, filter_.offsets, steps, values, at)
        counts.append((passed & ~torch.isin(at, excluded)).sum())
    return torch.stack(counts) if counts else filters.steps.new_empty(0)


def _pool(query: Tensor, chosen: Tensor, ivf: IvfTensors, size: int) -> Tensor:
    best_keys = torch.empty(0, dtype=torch.int64, device=query.device)
    positions = torch.empty(0, dtype=torch.int64, device=query.device)
    exact_query = query.double()
    for part in torch.split(chosen, _CHUNK):
        # Sums of integers below 2^53 are exact in float64, in whatever order they are added.
        totals = coarse_values(ivf.codes[part]) @ exact_query
        scores = totals.float() * ivf.scales[part]
        best_keys = torch.cat([best_keys, keys(scores, ivf.rows[part].long())])
        positions = torch.cat([positions, part])
        best_keys, indices = best(best_keys, size)
        positions = positions[indices]
    return positions
