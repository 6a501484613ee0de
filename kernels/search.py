"""Filter and search in one pass: open clusters until enough survivors are found, score them, keep the best.

    opened   the shortest run of clusters, in probe order, that holds at least `budget` survivors; all of them
             where fewer items are eligible; never more than `probes`
    score    float32(code_q . value_x) * unit_x for each survivor in an opened cluster; see kernels/coarse.py
    pool     the best by score, `rescored` times as many as are wanted, at least as many as are kept; ties go to
             the smaller row
    kept     of the pool, the best by similarity, in order; see kernels/rescore.py; ties go to the smaller row

Counting survivors instead of items is what keeps a selective filter from starving the search: the fewer pass,
the more clusters are opened, until every survivor is scored and the search is exact. What is scored follows
from index and query alone; the estimate on a sample only tells the native kernel how to go about it.

What a search takes and finds: search_tensors.py. The reference: search_reference.py. The binding of the native kernel:
search_native.py. The Triton kernel: gpu/search.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

from torch import Tensor

from meshfold.kernels import native
from meshfold.kernels.eligible import check_filter
from meshfold.kernels.filter_program import FilterTensors, Programs
from meshfold.kernels.operation import is_plain, operation
from meshfold.kernels.search_native import search_native
from meshfold.kernels.search_reference import search_reference
from meshfold.kernels.search_tensors import Found, IvfTensors, Limits, check_items, check_queries


def search(
    vectors: Tensor, ivf: IvfTensors, filter_: FilterTensors, programs: Programs, limits: Limits, k: int
) -> Found:
    """The best eligible items for each query vector. vectors: [B, T, D] float32, finite.

    Tables are checked when they are first met: what a tensor's memory is must not change afterwards.
    """
    asked, limit = programs.native, limits.native
    if asked and limit and is_plain(vectors) and native.library() is not None:
        # Without torch's dispatcher, which takes a while beside a small search.
        return search_native(vectors, ivf, filter_, asked, limit, k)
    b, t, d = vectors.shape
    check_queries(vectors, programs.queries, limits.queries)
    check_items(ivf, d)
    check_filter(filter_, ivf.codes.shape[0])
    return Found(
        *_search(
            vectors,
            *(getattr(ivf, field.name) for field in fields(ivf)),
            filter_.signature,
            list(filter_.columns),
            list(filter_.offsets),
            filter_.flat_lists(),
            *programs.tensors(),
            *limits.tensors(),
            limits.rescored,
            limits.room,
            k,
        )
    )


def _flat(
    run: Callable[[Tensor, IvfTensors, FilterTensors, Programs, Limits, int], Found],
) -> Callable[..., tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]:
    """As torch takes an operation: tensors, lists of them and numbers."""

    def flat(
        vectors: Tensor,
        centroids: Tensor,
        centroid_units: Tensor,
        centroid_spreads: Tensor,
        offsets: Tensor,
        codes: Tensor,
        residuals: Tensor,
        units: Tensor,
        rows: Tensor,
        coarse: Tensor,
        signature: Tensor,
        columns: list[Tensor],
        column_offsets: list[Tensor],
        lists: list[Tensor],
        steps: Tensor,
        values: Tensor,
        value_rows: Tensor,
        excluded: Tensor,
        budget: Tensor,
        probes: Tensor,
        depth: Tensor,
        wanted: Tensor,
        rescored: int,
        room: int,
        k: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        found = run(
            vectors,
            IvfTensors(
                *(centroids, centroid_units, centroid_spreads, offsets, codes, residuals, units, rows, coarse)
            ),
            FilterTensors.of(signature, columns, column_offsets, lists),
            Programs(steps, values, value_rows, excluded),
            Limits(budget, probes, depth, rescored, room, wanted),
            k,
        )
        return found.positions, found.similarities, found.opened, found.scored, found.sampled

    return flat


def _on_cpu(
    vectors: Tensor, ivf: IvfTensors, filter_: FilterTensors, programs: Programs, limits: Limits, k: int
) -> Found:
    asked, limit = programs.native, limits.native
    if asked is None or limit is None or native.library() is None:
        return search_reference(vectors, ivf, filter_, programs, limits, k)
    return search_native(vectors, ivf, filter_, asked, limit, k)


def _on_cuda(
    vectors: Tensor, ivf: IvfTensors, filter_: FilterTensors, programs: Programs, limits: Limits, k: int
) -> Found:
    from meshfold.kernels.gpu.search import search_gpu

    return search_gpu(vectors, ivf, filter_, programs, limits, k)


_search = operation("search")(_flat(search_reference))
_search.register_kernel("cpu")(_flat(_on_cpu))
_search.register_kernel("cuda")(_flat(_on_cuda))


@_search.register_fake
def _(
    vectors: Tensor,
    centroids: Tensor,
    centroid_units: Tensor,
    centroid_spreads: Tensor,
    offsets: Tensor,
    codes: Tensor,
    residuals: Tensor,
    units: Tensor,
    rows: Tensor,
    coarse: Tensor,
    signature: Tensor,
    columns: list[Tensor],
    column_offsets: list[Tensor],
    lists: list[Tensor],
    steps: Tensor,
    values: Tensor,
    value_rows: Tensor,
    excluded: Tensor,
    budget: Tensor,
    probes: Tensor,
    depth: Tensor,
    wanted: Tensor,
    rescored: int,
    room: int,
    k: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    b, t, _ = vectors.shape
    new = depth.new_empty
    return new((b, t, k)), vectors.new_empty((b, t, k)), new((b, t)), new((b, t)), new(b)
