"""The binding of the native kernel of kernels/search/ivf_search.py."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
import torch
from torch import Tensor

from meshfold.kernels.filter.steps import FilterTensors
from meshfold.kernels.native import library, structs
from meshfold.kernels.search.sample import SAMPLE, of_sample
from meshfold.kernels.search.tensors import Found, IvfTensors, check_queries

# Places for results in a call at most: 32 bits count them.
_MOST_PLACES = (1 << 31) - 1
_KIND = torch.float32
# Looked up once: a call seldom finds them in the cache.
_Pointer, _pointer_to = ctypes.c_void_p, ctypes.byref
_array, _empty, _tensor = np.ndarray, np.empty, torch.from_numpy
_INT64, _FLOAT32 = np.dtype(np.int64), np.dtype(np.float32)


def search_native(
    vectors: Tensor,
    ivf: IvfTensors,
    filter_: FilterTensors,
    filters: structs.FilterBatch,
    limits: structs.Limits,
    most_candidates: int,
) -> Found:
    # A third of the time of a small search is Python's, so that nothing is looked up or called twice.
    b, t, d = vectors.shape
    if vectors.dtype is not _KIND or not filters.queries == limits.queries == b:
        check_queries(vectors, filters.queries, limits.queries)
    items = ivf.native
    if items.dimension != d:
        ivf.check(d)
    filtered = items.filtered
    if filtered is None or filtered[0] is not filter_:
        index = filter_.native(items.items)
        if index.sample is None:
            index.sample = of_sample(filter_, index.items).native(min(index.items, SAMPLE))
        filtered = items.filtered = filter_, index, index.sample
    shape, vector_count = (b, t, most_candidates), b * t
    size = vector_count * most_candidates
    if size > _MOST_PLACES:
        raise ValueError(
            f"{b} queries, {t} vectors each, have room for {most_candidates} results each; all may be {_MOST_PLACES}"
        )
    contiguous = vectors.contiguous()
    # No ctypes array: Python makes a type for each length, and keeps it until a full collection.
    memory = _empty(size + 2 * vector_count + (size + 1) // 2, _INT64)
    positions = _tensor(_array(shape, _INT64, memory))
    code = _function()(
        _Pointer(contiguous.data_ptr()),
        t,
        _pointer_to(items),
        _pointer_to(filtered[1]),
        _pointer_to(filtered[2]),
        _pointer_to(filters),
        _pointer_to(limits),
        most_candidates,
        # torch gives no address for a tensor without elements.
        _Pointer(positions.data_ptr() or memory.ctypes.data),
        library.threads(),
    )
    if code:
        raise library.refusal(code)
    # Places in the memory as in kernels/cpp/search/search.cpp.
    after = 8 * size
    sampled = torch.empty(b, dtype=torch.int64)
    library.call("sampled", _pointer_to(filtered[2]), _pointer_to(filters), items.items, sampled)
    return Found(
        positions,
        _tensor(_array(shape, _FLOAT32, memory, after + 16 * vector_count)),
        _tensor(_array((b, t), _INT64, memory, after)),
        _tensor(_array((b, t), _INT64, memory, after + 8 * vector_count)),
        sampled,
    )


@cache
def _function() -> ctypes._NamedFuncPointer:
    # Without argument types: ctypes' checks take as long as the rest of a call. Arguments other than int have a type.
    return library.loaded().meshfold_search
