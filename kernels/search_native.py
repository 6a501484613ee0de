"""The binding of the native kernel of kernels/search.py."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
import torch
from torch import Tensor

from meshfold.kernels import native
from meshfold.kernels.eligible import native_filter
from meshfold.kernels.filter_program import FilterTensors
from meshfold.kernels.sample import SAMPLE, of_sample
from meshfold.kernels.search_tensors import Found, IvfTensors, check_items, check_queries

# Results of a call at most: what 32 bits count.
_MOST_FOUND = (1 << 31) - 1
_KIND = torch.float32
# Looked up once: what a call reads is seldom in the cache.
_Pointer, _pointer_to = ctypes.c_void_p, ctypes.byref
_array, _empty, _tensor = np.ndarray, np.empty, torch.from_numpy
_INT64 = np.dtype(np.int64)


def search_native(
    vectors: Tensor,
    ivf: IvfTensors,
    filter_: FilterTensors,
    programs: native.Programs,
    limits: native.Limits,
    k: int,
) -> Found:
    # Of a small search a third is what Python does around it: nothing is looked up or called twice.
    b, t, d = vectors.shape
    if vectors.dtype is not _KIND or not programs.queries == limits.queries == b:
        check_queries(vectors, programs.queries, limits.queries)
    items = ivf.native
    if items.dimension != d:
        check_items(ivf, d)
    filtered = items.filtered
    if filtered is None or filtered[0] is not filter_:
        index = native_filter(filter_, items.items)
        filtered = items.filtered = filter_, index, _sample(filter_, index)
    size = b * t * k
    if size > _MOST_FOUND:
        raise ValueError(
            f"{b} queries, {t} vectors each, have room for {k} results each; all may be {_MOST_FOUND}"
        )
    held = vectors.contiguous()
    # No ctypes array: Python makes a type for each length, and keeps it until a full collection.
    memory = _empty(size + 2 * b * t + (size + 1) // 2, _INT64)
    positions = _tensor(_array((b, t, k), _INT64, memory))
    code = _function()(
        _Pointer(held.data_ptr()),
        t,
        _pointer_to(items),
        _pointer_to(filtered[1]),
        _pointer_to(filtered[2]),
        _pointer_to(programs),
        _pointer_to(limits),
        k,
        # Of a tensor without elements torch tells no address.
        _Pointer(positions.data_ptr() or memory.ctypes.data),
        native.threads(),
    )
    if code:
        raise native.refusal(code)
    found = Found.__new__(Found)
    found.__dict__.update(
        positions=positions,
        _memory=memory,
        _asked=(filtered[2], programs, items.items),
    )
    return found


def _sample(filter_: FilterTensors, index: native.FilterIndex) -> native.FilterIndex:
    """What the sampled items hold, as the native kernel takes it; kept with the tables of all."""
    if index.sample is None:
        index.sample = native_filter(of_sample(filter_, index.items), min(index.items, SAMPLE))
    return index.sample


@cache
def _function() -> ctypes._NamedFuncPointer:
    # Without types of arguments: looking at them takes as long as all else of a call. What is no int has its own.
    return native.loaded().meshfold_search
