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
    """positions: [B, K] int64 - best first, -1 after the last. places: [B, K] int64 - where each stood."""

    positions: Tensor
    places: Tensor


def ranked(scores: Tensor, positions: Tensor, rows: Tensor, k: int) -> Ranked:
    """The best min(k, M) of each row, of which K there are.

    scores: [B, M] float32 without NaN. positions: [B, M] int64 - each once, -1 for nothing. rows: [N] int32.
    Raises ValueError where a position is N or more; CUDA stops at it as at any index out of bounds.
    """
    expect("positions", positions, ("B", "M"), torch.int64)
    expect("scores", scores, tuple(positions.shape), torch.float32)
    expect("rows", rows, ("N",), torch.int32)
    return Ranked(*_ranked(scores, positions, rows, min(k, positions.shape[1])))


@operation("ranked")
def _ranked(scores: Tensor, positions: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    found = ranked_reference(scores, positions, rows, k)
    return found.positions, found.places


@_ranked.register_kernel("cpu")
def _(scores: Tensor, positions: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    if native.library() is None:
        found = ranked_reference(scores, positions, rows, k)
        return found.positions, found.places
    held_scores, held_positions = scores.contiguous(), positions.contiguous()
    b, m = positions.shape
    out, places = positions.new_empty((b, k)), positions.new_empty((b, k))
    native.call(
        _function(),
        held_scores.data_ptr(),
        held_positions.data_ptr(),
        native.contiguous("rows", rows).data_ptr(),
        rows.numel(),
        b,
        m,
        k,
        out.data_ptr(),
        places.data_ptr(),
    )
    return out, places


@_ranked.register_kernel("cuda")
def _(scores: Tensor, positions: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    found = in_order(scores, positions, rows, k)
    return found.positions, found.places


@_ranked.register_fake
def _(scores: Tensor, positions: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    b = positions.shape[0]
    return positions.new_empty((b, k)), positions.new_empty((b, k))


def ranked_reference(scores: Tensor, positions: Tensor, rows: Tensor, k: int) -> Ranked:
    """The same in plain torch, on any device."""
    if (positions >= rows.numel()).any():
        raise ValueError(f"positions hold {int(positions.max())}, of {rows.numel()}")
    return in_order(scores, positions, rows, k)


def in_order(scores: Tensor, positions: Tensor, rows: Tensor, k: int) -> Ranked:
    """The same without looking at the positions, for which a host would wait for its device."""
    of_items = keys(scores, rows[positions.clamp(min=0)].long())
    held, places = best(torch.where(positions >= 0, of_items, NOTHING), k)
    return Ranked(torch.where(held > NOTHING, positions.gather(1, places), -1), places)


@cache
def _function() -> ctypes._NamedFuncPointer:
    function = native.loaded().meshfold_ranked
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [pointer, pointer, pointer, *[number] * 4, pointer, pointer]
    return function
