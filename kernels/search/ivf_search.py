"""Filter and search in one pass: open clusters until enough survivors are found, score them, keep the best.

    opened     the shortest run of clusters, in probe order, that holds at least `budget` survivors; all of them where
               fewer items are eligible; never more than `probes`
    score      float32(code_q . value_x) * scale_x for each survivor in an opened cluster; see kernels/search/coarse.py
    pool       the best by score, max_results * rescored of them, at least as many as there are candidates; ties go to
    the
               smaller row
    candidates the best of the pool by similarity, in order; see kernels/search/rescore.py; ties go to the smaller row

The budget counts survivors instead of items, so that a selective filter does not starve the search: the fewer items
pass, the more clusters are opened, until every survivor is scored and the search is exact. Index and query alone decide
which items are scored; the estimate on a sample only chooses how the native kernel does it.

Arguments and results: tensors.py. The reference: ivf_reference.py. The binding of the native kernel: ivf_native.py. The
Triton kernel: kernels/gpu/ivf_search.py.
"""

from __future__ import annotations

from torch import Tensor

from meshfold.kernels.filter.steps import FilterBatch, FilterTensors
from meshfold.kernels.native import library
from meshfold.kernels.operation import Operation, is_plain
from meshfold.kernels.search.ivf_native import search_native
from meshfold.kernels.search.ivf_reference import search_reference
from meshfold.kernels.search.tensors import Found, IvfTensors, Limits, check_queries


def search(
    vectors: Tensor,
    ivf: IvfTensors,
    filter_: FilterTensors,
    filters: FilterBatch,
    limits: Limits,
    most_candidates: int,
) -> Found:
    """The best eligible items for each query vector. vectors: [B, T, D] float32, finite. most_candidates: columns of
    the result.

    Tables are checked at their first search: their memory must not change afterwards.
    """
    if filters.native and limits.native and is_plain(vectors) and library.is_available():
        # Without torch's dispatcher, which takes long beside a small search.
        return search_native(vectors, ivf, filter_, filters.native, limits.native, most_candidates)
    check_queries(vectors, filters.queries, limits.queries)
    ivf.check(vectors.shape[2])
    filter_.check(ivf.codes.shape[0])
    return _search(vectors, ivf, filter_, filters, limits, most_candidates)


_search = Operation("search", search_reference)
_search.register_import("cuda", "meshfold.kernels.gpu.ivf_search", "search_gpu")


@_search.register_native
def _(
    vectors: Tensor,
    ivf: IvfTensors,
    filter_: FilterTensors,
    filters: FilterBatch,
    limits: Limits,
    most_candidates: int,
) -> Found:
    if filters.native is None or limits.native is None:
        return search_reference(vectors, ivf, filter_, filters, limits, most_candidates)
    return search_native(vectors, ivf, filter_, filters.native, limits.native, most_candidates)


@_search.register_fake
def _(
    vectors: Tensor,
    ivf: IvfTensors,
    filter_: FilterTensors,
    filters: FilterBatch,
    limits: Limits,
    most_candidates: int,
) -> Found:
    b, t, _ = vectors.shape
    new = limits.candidates.new_empty
    shape = (b, t, most_candidates)
    return Found(new(shape), vectors.new_empty(shape), new((b, t)), new((b, t)), new(b))
