"""Candidates in order: by score, ties to the smaller row; see kernels/ordered.py for the keys that say so."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from meshfold.kernels import native
from meshfold.kernels.expect import expect
from meshfold.kernels.operation import operation
from meshfold.kernels.ordered import NOTHING, best, keys


@dataclass(frozen=True, eq=False)
class Ranked:
    """positions: [B, K] int64 - best first, -1 after the last. places: [B, K] int64 - where each stood, 0 after the
    last."""

    positions: Tensor
    places: Tensor


def ranked(scores: Tensor, positions: Tensor, rows: Tensor, k: int, wanted: Tensor | None = None) -> Ranked:
    """The best min(k, M) of each row, of which K there are.

    scores: [B, M] float32 without NaN. positions: [B, M] int64 - each once, -1 for nothing. rows: [N] int32. wanted:
    [B] int64 - how many of each row, at most K; None for all. Raises ValueError where a position is N or more; CUDA
    stops at it as at any index out of bounds.
    """
    expect("positions", positions, ("B", "M"), torch.int64)
    expect("scores", scores, tuple(positions.shape), torch.float32)
    expect("rows", rows, ("N",), torch.int32)
    b, m = positions.shape
    k = min(k, m)
    if wanted is None:
        wanted = torch.full((b,), k, device=positions.device)
    expect("wanted", wanted, (b,), torch.int64)
    return Ranked(*_ranked(scores, positions, rows, wanted, k))


@operation("ranked")
def _ranked(scores: Tensor, positions: Tensor, rows: Tensor, wanted: Tensor, k: int) -> tuple[Tensor, Tensor]:
    found = ranked_reference(scores, positions, rows, wanted, k)
    return found.positions, found.places


@_ranked.register_kernel("cpu")
def _(scores: Tensor, positions: Tensor, rows: Tensor, wanted: Tensor, k: int) -> tuple[Tensor, Tensor]:
    if native.library() is None:
        found = ranked_reference(scores, positions, rows, wanted, k)
        return found.positions, found.places
    held_scores, held_positions, held_wanted = (
        scores.contiguous(),
        positions.contiguous(),
        wanted.contiguous(),
    )
    b, m = positions.shape
    out, places = positions.new_empty((b, k)), positions.new_empty((b, k))
    native.call(
        _function(),
        held_scores.data_ptr(),
        held_positions.data_ptr(),
        native.contiguous("rows", rows).data_ptr(),
        held_wanted.data_ptr(),
        rows.numel(),
        b,
        m,
        k,
        out.data_ptr(),
        places.data_ptr(),
    )
    return out, places


@_ranked.register_kernel("cuda")
def _(scores: Tensor, positions: Tensor, rows: Tensor, wanted: Tensor, k: int) -> tuple[Tensor, Tensor]:
    found = _first(in_order(scores, positions, rows, k), wanted)
    return found.positions, found.places


@_ranked.register_fake
def _(scores: Tensor, positions: Tensor, rows: Tensor, wanted: Tensor, k: int) -> tuple[Tensor, Tensor]:
    b = positions.shape[0]
    return positions.new_empty((b, k)), positions.new_empty((b, k))


def ranked_reference(scores: Tensor, positions: Tensor, rows: Tensor, wanted: Tensor, k: int) -> Ranked:
    """The same in plain torch, on any device."""
    if (positions >= rows.numel()).any():
        raise ValueError(f"positions hold {int(positions.max())}, of {rows.numel()}")
    return _first(in_order(scores, positions, rows, k), wanted)


def _first(found: Ranked, wanted: Tensor) -> Ranked:
    """Of each row the first so many."""
    after = torch.arange(found.positions.shape[1], device=wanted.device) >= wanted[:, None]
    positions = found.positions.masked_fill(after, -1)
    return Ranked(positions, found.places.masked_fill(positions < 0, 0))


def in_order(scores: Tensor, positions: Tensor, rows: Tensor, k: int) -> Ranked:
    """All k of each row, without looking at the positions, for which a host would wait for its device."""
    of_items = keys(scores, rows[positions.clamp(min=0)].long())
    held, places = best(torch.where(positions >= 0, of_items, NOTHING), k)
    return Ranked(torch.where(held > NOTHING, positions.gather(1, places), -1), places)


@cache
def _function() -> ctypes._NamedFuncPointer:
    function = native.loaded().meshfold_ranked
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [*[pointer] * 4, *[number] * 4, pointer, pointer]
    return function
