"""Open clusters until enough survivors of the filter are found, score them as Int8, keep the best.

    opened   the shortest run of clusters, in probe order, that holds at least `budget` survivors
    score    float32(code_q . code_x) * unit_x for each survivor in an opened cluster
    kept     the best by score; ties go to the smaller row

Counting survivors instead of items is what keeps a selective filter from starving the search: the fewer pass,
the more clusters are opened, until every survivor is scored and the search is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from meshfold.kernels.bundles import WORDS, count, unpack
from meshfold.kernels.expect import expect
from meshfold.kernels.ordered import best, keys
from meshfold.kernels.ragged import ranges

# Items scored at a time: what bounds the float64 copy of their codes.
_CHUNK = 16_384


@dataclass(frozen=True, eq=False)
class Scanned:
    """positions: [B, T, K] int64 - best first, -1 after the last. opened, scored: [B, T] int64 - counts."""

    positions: Tensor
    opened: Tensor
    scored: Tensor


def scan(
    queries: Tensor,
    order: Tensor,
    survivors: Tensor,
    codes: Tensor,
    units: Tensor,
    rows: Tensor,
    offsets: Tensor,
    budget: Tensor,
    depth: Tensor,
    k: int,
) -> Scanned:
    """The best survivors for each query vector.

    queries: [B, T, D] int8 - codes. order: [B, T, C] int64 - clusters, best first.
    survivors: [B, G, 8] int64 - bits of the eligible items; see kernels/bundles.py.
    codes: [N, D] int8, units: [N] float32, rows: [N] int32 - items by position, clusters back to back.
    offsets: [C + 1] int64 - cluster c lies at positions offsets[c] to offsets[c + 1].
    budget: [B] int64 - survivors to score, unless there are fewer. depth: [B] int64 - candidates to keep,
    at most k.
    """
    b, t, d = queries.shape
    n, c = codes.shape[0], offsets.numel() - 1
    expect("queries", queries, (b, t, d), torch.int8)
    expect("order", order, (b, t, c), torch.int64)
    expect("survivors", survivors, (b, count(n), WORDS), torch.int64)
    expect("codes", codes, (n, d), torch.int8)
    expect("units", units, (n,), torch.float32)
    expect("rows", rows, (n,), torch.int32)
    expect("budget", budget, (b,), torch.int64)
    expect("depth", depth, (b,), torch.int64)
    return Scanned(*_scan(queries, order, survivors, codes, units, rows, offsets, budget, depth, k))


@torch.library.custom_op("meshfold::scan", mutates_args=())
def _scan(
    queries: Tensor,
    order: Tensor,
    survivors: Tensor,
    codes: Tensor,
    units: Tensor,
    rows: Tensor,
    offsets: Tensor,
    budget: Tensor,
    depth: Tensor,
    k: int,
) -> tuple[Tensor, Tensor, Tensor]:
    b, t, _ = queries.shape
    n, c = codes.shape[0], offsets.numel() - 1
    positions = torch.full((b, t, k), -1, dtype=torch.int64, device=codes.device)
    opened = torch.zeros((b, t), dtype=torch.int64, device=codes.device)
    scored = torch.zeros((b, t), dtype=torch.int64, device=codes.device)
    for i in range(b):
        passed = torch.nonzero(unpack(survivors[i], n)).squeeze(1)
        # first[c] survivors lie before cluster c.
        first = torch.searchsorted(passed, offsets)
        held = first.diff()
        for j in range(t):
            so_far = torch.cumsum(held[order[i, j]], 0)
            # One more cluster than those that leave the budget unmet; all of them where it cannot be met.
            p = min(int(torch.searchsorted(so_far, budget[i])) + 1, c)
            clusters = order[i, j, :p]
            chosen = passed[ranges(first[clusters], held[clusters])]
            kept = _best(queries[i, j], chosen, codes, units, rows, int(depth[i]))
            positions[i, j, : kept.numel()] = kept
            opened[i, j] = p
            scored[i, j] = chosen.numel()
    return positions, opened, scored


@_scan.register_fake
def _(
    queries: Tensor,
    order: Tensor,
    survivors: Tensor,
    codes: Tensor,
    units: Tensor,
    rows: Tensor,
    offsets: Tensor,
    budget: Tensor,
    depth: Tensor,
    k: int,
) -> tuple[Tensor, Tensor, Tensor]:
    b, t, _ = queries.shape
    return depth.new_empty((b, t, k)), depth.new_empty((b, t)), depth.new_empty((b, t))


def _best(query: Tensor, chosen: Tensor, codes: Tensor, units: Tensor, rows: Tensor, k: int) -> Tensor:
    held_keys = torch.empty(0, dtype=torch.int64, device=codes.device)
    held = torch.empty(0, dtype=torch.int64, device=codes.device)
    exact_query = query.double()
    for part in torch.split(chosen, _CHUNK):
        # Sums of integers below 2^53 are exact in float64, in whatever order they are added.
        totals = codes[part].double() @ exact_query
        scores = totals.float() * units[part]
        held_keys = torch.cat([held_keys, keys(scores, rows[part].long())])
        held = torch.cat([held, part])
        held_keys, indices = best(held_keys, k)
        held = held[indices]
    return held
