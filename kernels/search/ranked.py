"""Candidates in order: by score, ties to the smaller row. Keys that order so: kernels/search/ordered.py."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from meshfold.kernels.expect import expect
from meshfold.kernels.native import library
from meshfold.kernels.operation import Operation
from meshfold.kernels.search.ordered import NOTHING, best, keys


@dataclass(frozen=True, eq=False)
class Ranked:
    """positions: [B, K] int64 - best first, -1 after the last. places: [B, K] int64 - indices into the input, 0 after
    the last."""

    positions: Tensor
    places: Tensor


def ranked(
    scores: Tensor, positions: Tensor, rows: Tensor, most_results: int, max_results: Tensor | None = None
) -> Ranked:
    """The best of each query, K = min(most_results, M).

    scores: [B, M] float32 without NaN. positions: [B, M] int64 - each once, -1 for nothing. rows: [N] int32.
    max_results: [B] int64 - results of each query, at most K; None for K. Raises ValueError for a position of N or
    more; CUDA stops at it as at any index out of bounds.
    """
    expect("positions", positions, ("B", "M"), torch.int64)
    expect("scores", scores, tuple(positions.shape), torch.float32)
    expect("rows", rows, ("N",), torch.int32)
    b, m = positions.shape
    most_results = min(most_results, m)
    if max_results is None:
        max_results = torch.full((b,), most_results, device=positions.device)
    expect("max_results", max_results, (b,), torch.int64)
    return _ranked(scores, positions, rows, max_results, most_results)


def ranked_reference(
    scores: Tensor, positions: Tensor, rows: Tensor, max_results: Tensor, most_results: int
) -> Ranked:
    """Every level gives these integers."""
    if (positions >= rows.numel()).any():
        raise ValueError(f"positions hold {int(positions.max())}, of {rows.numel()}")
    return _on_device(scores, positions, rows, max_results, most_results)


_ranked = Operation("ranked", ranked_reference)


@_ranked.register_native
def _(scores: Tensor, positions: Tensor, rows: Tensor, max_results: Tensor, most_results: int) -> Ranked:
    b, m = positions.shape
    out = Ranked(positions.new_empty((b, most_results)), positions.new_empty((b, most_results)))
    library.call(
        "ranked",
        *(
            scores.contiguous(),
            positions.contiguous(),
            library.contiguous("rows", rows),
            max_results.contiguous(),
        ),
        *(rows.numel(), b, m, most_results, out.positions, out.places),
    )
    return out


@_ranked.register_kernel("cuda")
def _on_device(
    scores: Tensor, positions: Tensor, rows: Tensor, max_results: Tensor, most_results: int
) -> Ranked:
    found = in_order(scores, positions, rows, most_results)
    beyond = torch.arange(most_results, device=max_results.device) >= max_results[:, None]
    best_positions = found.positions.masked_fill(beyond, -1)
    return Ranked(best_positions, found.places.masked_fill(best_positions < 0, 0))


@_ranked.register_fake
def _(scores: Tensor, positions: Tensor, rows: Tensor, max_results: Tensor, most_results: int) -> Ranked:
    b = positions.shape[0]
    return Ranked(positions.new_empty((b, most_results)), positions.new_empty((b, most_results)))


def in_order(scores: Tensor, positions: Tensor, rows: Tensor, most_results: int) -> Ranked:
    """The same number of results for every query, without a check of positions, for which a host would wait for its
    device."""
    of_items = keys(scores, rows[positions.clamp(min=0)].long())
    best_keys, places = best(torch.where(positions >= 0, of_items, NOTHING), most_results)
    return Ranked(torch.where(best_keys > NOTHING, positions.gather(1, places), -1), places)
