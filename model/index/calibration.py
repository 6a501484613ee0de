"""Calibration of the scan budget: the smallest number of survivors to score that reaches the target recall on samples.

It needs exact searches alone. A search finds a result of the exact search if it opens the result's cluster. It opens a
cluster if the clusters before it have fewer survivors than the budget. So each result has a price: the number of items
in the clusters before its own. Recall at a budget is the share of results with a price below it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from meshfold.kernels.search.exact_search import exact_search
from meshfold.kernels.search.ordered import best, keys
from meshfold.kernels.search.probe import probe_order
from meshfold.kernels.search.rescore import rescore
from meshfold.kernels.vectors.items import item_vectors
from meshfold.kernels.vectors.quantize import Quantized, quantize
from meshfold.model.config import IndexConfig
from meshfold.model.index.kmeans import Centroids
from meshfold.model.progress import Progress

# The smallest budget: scoring this many items takes a fraction of a millisecond.
SMALLEST_BUDGET = 16_384
QUERIES = 64
_ITEMS_MIXED = 4
_QUERIES_AT_A_TIME = 16
_ITEMS_AT_A_TIME = 1 << 22


def item_like_queries(items: Quantized, count: int, seed: int) -> Tensor:
    """[count, D] float32: vectors of random items. Real queries have lower recall; see user_like_queries."""
    return _vectors(items, count, np.random.Generator(np.random.PCG64(seed)))


def user_like_queries(items: Quantized, count: int, seed: int) -> Tensor:
    """[count, D] float32: mixtures of _ITEMS_MIXED random items plus a common shift.

    They imitate user towers: users have several tastes, and their vectors have another mean than items'. Item vectors
    as queries overestimate recall, because they lie in clusters.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    weights = torch.from_numpy(rng.dirichlet(np.ones(_ITEMS_MIXED), count)).float()
    shift = _vectors(items, 1, rng)
    mixed = shift * 0.25
    for taste in range(_ITEMS_MIXED):
        mixed = mixed + weights[:, taste, None] * _vectors(items, count, rng)
    return mixed


def scan_budget(
    items: Quantized,
    members: Tensor,
    centroids: Centroids,
    spreads: Tensor,
    config: IndexConfig,
    progress: Progress,
    device: torch.device,
) -> int:
    """The number of survivors to score, between SMALLEST_BUDGET and max_scan_share of the items.

    items: codes [N, D]. members: [N] int64 - clusters of items. Both are in the order of rows. device: for the exact
    searches.
    """
    n = members.numel()
    if n <= SMALLEST_BUDGET:
        return SMALLEST_BUDGET
    depth = min(config.recall_depth, n // 8)
    sizes = torch.bincount(members, minlength=centroids.codes.shape[0])
    budget = SMALLEST_BUDGET
    for kind, draw in enumerate((item_like_queries, user_like_queries)):
        prices = []
        queries = draw(items, QUERIES, config.seed + kind)
        for done, part in enumerate(torch.split(queries, _QUERIES_AT_A_TIME)):
            progress("calibrating", kind * QUERIES + done * _QUERIES_AT_A_TIME, 2 * QUERIES)
            order = _probe(part, centroids, spreads)
            prices.append(_prices(part, items, members, sizes, order, depth, device))
        ordered = torch.cat(prices).sort().values
        needed = min(int(np.ceil(config.target_recall * ordered.numel())), ordered.numel())
        budget = max(budget, int(ordered[max(needed - 1, 0)]) + 1)
    progress("calibrating", 2 * QUERIES, 2 * QUERIES)
    # The last opened cluster may exceed the budget by all but one of its items.
    most = int(n * config.max_scan_share) - int(sizes.max())
    return max(SMALLEST_BUDGET, min(budget, most))


def _prices(
    queries: Tensor,
    items: Quantized,
    members: Tensor,
    sizes: Tensor,
    order: Tensor,
    depth: int,
    device: torch.device,
) -> Tensor:
    """[B * depth] int64: number of items before the cluster of each exact result. order: [B, C] int64 - probe order."""
    in_order = sizes[order]
    before = torch.zeros_like(in_order).scatter(1, order, torch.cumsum(in_order, 1) - in_order)
    return before.gather(1, members[_exact(queries, items, depth, device)]).flatten()


def _exact(queries: Tensor, items: Quantized, depth: int, device: torch.device) -> Tensor:
    """[B, depth] int64: rows of the best of all items. Items are copied to the device in chunks."""
    coded = quantize(queries.to(device))
    best_keys = torch.empty((len(queries), 0), dtype=torch.int64, device=device)
    best_rows = best_keys
    for start in range(0, items.codes.shape[0], _ITEMS_AT_A_TIME):
        part = slice(start, start + _ITEMS_AT_A_TIME)
        own = Quantized(*(t[part].to(device) for t in (items.codes, items.residuals, items.scales)))
        rows = torch.arange(own.scales.numel(), dtype=torch.int32, device=device)
        found = exact_search(coded, own, rows, depth)
        each = Quantized(*(t.unsqueeze(1) for t in (coded.codes, coded.residuals, coded.scales)))
        own_keys = keys(rescore(each, own, found)[:, 0], found + start)
        best_keys, places = best(torch.cat([best_keys, own_keys], 1), depth)
        best_rows = torch.cat([best_rows, found + start], 1).gather(1, places)
    return best_rows.cpu()


def _probe(queries: Tensor, centroids: Centroids, spreads: Tensor) -> Tensor:
    """[B, C] int64: clusters, best first."""
    codes = quantize(queries).codes.unsqueeze(1)
    return probe_order(codes, centroids.codes, centroids.scales, spreads)[:, 0]


def _vectors(items: Quantized, count: int, rng: np.random.Generator) -> Tensor:
    at = torch.from_numpy(rng.integers(0, items.codes.shape[0], count))
    return item_vectors(items, at)
