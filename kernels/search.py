"""Filter and search in one pass: open clusters until enough survivors are found, score them, keep the best.

    opened   the shortest run of clusters, in probe order, that holds at least `budget` survivors; all of them
             where fewer items are eligible; never more than `probes`
    score    float32(code_q . code_x) * unit_x for each survivor in an opened cluster
    kept     the best by score; ties go to the smaller row

Counting survivors instead of items is what keeps a selective filter from starving the search: the fewer pass,
the more clusters are opened, until every survivor is scored and the search is exact. What is scored follows
from index and query alone; the estimate on a sample only tells the native kernel how to go about it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from meshfold.kernels import native
from meshfold.kernels.bundles import unpack
from meshfold.kernels.eligible import check_filter, check_programs, eligible_reference, native_filter
from meshfold.kernels.expect import expect
from meshfold.kernels.filter_exact import filter_exact
from meshfold.kernels.filter_program import STEP, FilterTensors, Programs
from meshfold.kernels.operation import is_plain, operation
from meshfold.kernels.ordered import best, keys
from meshfold.kernels.probe import probe_order
from meshfold.kernels.ragged import ranges

# Items from which a pass rate is estimated.
SAMPLE = 1024
# Items that the reference scores at a time: what bounds the float64 copy of their codes.
_CHUNK = 16_384


@dataclass(frozen=True, eq=False)
class IvfTensors:
    """N items in C clusters that lie back to back.

    centroids: [C, D] int8, centroid_units, centroid_spreads: [C] float32 - see kernels/probe.py. offsets: [C + 1]
    int64 - cluster c lies at positions offsets[c] to offsets[c + 1]. codes: [N, D] int8, units: [N] float32,
    rows: [N] int32 - items by position.
    """

    centroids: Tensor
    centroid_units: Tensor
    centroid_spreads: Tensor
    offsets: Tensor
    codes: Tensor
    units: Tensor
    rows: Tensor


@dataclass(frozen=True, eq=False)
class Limits:
    """Of each query, all [B] int64. budget: survivors to score, unless there are fewer. probes: clusters to open at
    most. depth: candidates to keep, at most k.

    room: survivors that any query vector scores at most, so that a device has room for them; 0 where that is not known.
    """

    budget: Tensor
    probes: Tensor
    depth: Tensor
    room: int = 0


@dataclass(frozen=True, eq=False)
class Found:
    """positions: [B, T, k] int64 - best first, -1 after the last. opened, scored: [B, T] int64 - clusters and items.
    sampled: [B] int64 - how many pass of the sample, min(N, SAMPLE) items at even distances."""

    positions: Tensor
    opened: Tensor
    scored: Tensor
    sampled: Tensor


def search(
    queries: Tensor, ivf: IvfTensors, filter_: FilterTensors, programs: Programs, limits: Limits, k: int
) -> Found:
    """The best eligible items for each query vector. queries: [B, T, D] int8 - codes.

    Tables are checked when they are first met: what a tensor's memory is must not change afterwards.
    """
    b, t, d = queries.shape
    expect("queries", queries, (b, t, d), torch.int8)
    expect("steps", programs.steps, (b, "L", STEP), torch.int64)
    check_programs(programs)
    given = (limits.budget, limits.probes, limits.depth)
    for name, limit in zip(("budget", "probes", "depth"), given, strict=True):
        expect(name, limit, (b,), torch.int64)
    if native.library() is not None and is_plain(queries, *programs.tensors(), *given):
        return _search_native(queries, ivf, filter_, programs, limits, k)
    _check(ivf, d)
    check_filter(filter_, ivf.codes.shape[0])
    return Found(
        *_search(
            queries,
            ivf.centroids,
            ivf.centroid_units,
            ivf.centroid_spreads,
            ivf.offsets,
            ivf.codes,
            ivf.units,
            ivf.rows,
            filter_.signature,
            list(filter_.columns),
            list(filter_.offsets),
            filter_.flat_lists(),
            *programs.tensors(),
            *given,
            limits.room,
            k,
        )
    )


def _check(ivf: IvfTensors, d: int) -> None:
    n, c = ivf.codes.shape[0], ivf.offsets.numel() - 1
    expect("centroids", ivf.centroids, (c, d), torch.int8)
    expect("centroid_units", ivf.centroid_units, (c,), torch.float32)
    expect("centroid_spreads", ivf.centroid_spreads, (c,), torch.float32)
    expect("offsets", ivf.offsets, (c + 1,), torch.int64)
    expect("codes", ivf.codes, (n, d), torch.int8)
    expect("units", ivf.units, (n,), torch.float32)
    expect("rows", ivf.rows, (n,), torch.int32)


def search_reference(
    queries: Tensor, ivf: IvfTensors, filter_: FilterTensors, programs: Programs, limits: Limits, k: int
) -> Found:
    """The same in plain torch, on any device."""
    if ((limits.depth < 0) | (limits.depth > k)).any():
        raise ValueError("depth must lie from 0 to k")
    if ((limits.budget < 0) | (limits.probes < 0)).any():
        raise ValueError("budget and probes must not be negative")
    if ivf.offsets[0] != 0 or ivf.offsets[-1] != ivf.codes.shape[0] or (ivf.offsets.diff() < 0).any():
        raise ValueError("offsets must ascend from 0 to N")
    b, t, _ = queries.shape
    n, c = ivf.codes.shape[0], ivf.offsets.numel() - 1
    device = queries.device
    positions = torch.full((b, t, k), -1, dtype=torch.int64, device=device)
    opened = torch.zeros((b, t), dtype=torch.int64, device=device)
    scored = torch.zeros((b, t), dtype=torch.int64, device=device)
    wanted = torch.ones(b, dtype=torch.bool, device=device)
    survivors = eligible_reference(filter_, programs, wanted, n).bits
    order = probe_order(queries, ivf.centroids, ivf.centroid_units, ivf.centroid_spreads)
    for i in range(b):
        passed = torch.nonzero(unpack(survivors[i], n)).squeeze(1)
        # first[c] survivors lie before cluster c.
        first = torch.searchsorted(passed, ivf.offsets)
        held = first.diff()
        budget, most = int(limits.budget[i]), min(int(limits.probes[i]), c)
        for j in range(t):
            so_far = torch.cumsum(held[order[i, j]], 0)
            # One more cluster than those that leave the budget unmet; all of them where it cannot be met.
            p = min(int(torch.searchsorted(so_far, budget)) + 1, most)
            clusters = order[i, j, :p]
            chosen = passed[ranges(first[clusters], held[clusters])]
            kept = _best(queries[i, j], chosen, ivf, int(limits.depth[i]))
            positions[i, j, : kept.numel()] = kept
            opened[i, j] = p
            scored[i, j] = chosen.numel()
    return Found(positions, opened, scored, _sampled(filter_, programs, n))


def sample_positions(items: int, device: torch.device | str = "cpu") -> Tensor:
    """[min(N, SAMPLE)] int64: the fixed sample of positions, at even distances."""
    size = min(items, SAMPLE)
    return torch.arange(1, 2 * size + 1, 2, device=device) * items // (2 * max(size, 1))


def _sampled(filter_: FilterTensors, programs: Programs, items: int) -> Tensor:
    at = sample_positions(items, programs.steps.device)
    counts = []
    for steps, values, excluded in zip(programs.steps, programs.values, programs.excluded, strict=True):
        passed = filter_exact(filter_.signature, filter_.columns, filter_.offsets, steps, values, at)
        counts.append((passed & ~torch.isin(at, excluded)).sum())
    return torch.stack(counts) if counts else programs.steps.new_empty(0)


def _best(query: Tensor, chosen: Tensor, ivf: IvfTensors, depth: int) -> Tensor:
    held_keys = torch.empty(0, dtype=torch.int64, device=query.device)
    held = torch.empty(0, dtype=torch.int64, device=query.device)
    exact_query = query.double()
    for part in torch.split(chosen, _CHUNK):
        # Sums of integers below 2^53 are exact in float64, in whatever order they are added.
        totals = ivf.codes[part].double() @ exact_query
        scores = totals.float() * ivf.units[part]
        held_keys = torch.cat([held_keys, keys(scores, ivf.rows[part].long())])
        held = torch.cat([held, part])
        held_keys, indices = best(held_keys, depth)
        held = held[indices]
    return held


def _flat(
    run: Callable[[Tensor, IvfTensors, FilterTensors, Programs, Limits, int], Found],
) -> Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]:
    """As torch takes an operation: tensors, lists of them and numbers."""

    def flat(
        queries: Tensor,
        centroids: Tensor,
        centroid_units: Tensor,
        centroid_spreads: Tensor,
        offsets: Tensor,
        codes: Tensor,
        units: Tensor,
        rows: Tensor,
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
        room: int,
        k: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        found = run(
            queries,
            IvfTensors(centroids, centroid_units, centroid_spreads, offsets, codes, units, rows),
            FilterTensors.of(signature, columns, column_offsets, lists),
            Programs(steps, values, value_rows, excluded),
            Limits(budget, probes, depth, room),
            k,
        )
        return found.positions, found.opened, found.scored, found.sampled

    return flat


def _on_cpu(
    queries: Tensor, ivf: IvfTensors, filter_: FilterTensors, programs: Programs, limits: Limits, k: int
) -> Found:
    run = search_reference if native.library() is None else _search_native
    return run(queries, ivf, filter_, programs, limits, k)


def _on_cuda(
    queries: Tensor, ivf: IvfTensors, filter_: FilterTensors, programs: Programs, limits: Limits, k: int
) -> Found:
    from meshfold.kernels.gpu.search import search_gpu

    return search_gpu(queries, ivf, filter_, programs, limits, k)


_search = operation("search")(_flat(search_reference))
_search.register_kernel("cpu")(_flat(_on_cpu))
_search.register_kernel("cuda")(_flat(_on_cuda))


@_search.register_fake
def _(
    queries: Tensor,
    centroids: Tensor,
    centroid_units: Tensor,
    centroid_spreads: Tensor,
    offsets: Tensor,
    codes: Tensor,
    units: Tensor,
    rows: Tensor,
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
    room: int,
    k: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    b, t, _ = queries.shape
    new = depth.new_empty
    return new((b, t, k)), new((b, t)), new((b, t)), new(b)


def _search_native(
    queries: Tensor, ivf: IvfTensors, filter_: FilterTensors, programs: Programs, limits: Limits, k: int
) -> Found:
    b, t, d = queries.shape
    items = _native_ivf(ivf, d)
    index = native_filter(filter_, items.items)
    held = [tensor.contiguous() for tensor in (queries, limits.budget, limits.probes, limits.depth)]
    new = held[1].new_empty
    found = Found(new((b, t, k)), new((b, t)), new((b, t)), new(b))
    program = native.Programs.of(*programs.tensors())
    native.call(
        _function(),
        held[0].data_ptr(),
        t,
        ctypes.byref(items),
        ctypes.byref(index),
        ctypes.byref(program),
        *(tensor.data_ptr() for tensor in held[1:]),
        k,
        found.positions.data_ptr(),
        found.opened.data_ptr(),
        found.scored.data_ptr(),
        found.sampled.data_ptr(),
        native.threads(),
    )
    return found


_natives: WeakKeyDictionary[IvfTensors, native.Ivf] = WeakKeyDictionary()


def _native_ivf(ivf: IvfTensors, d: int) -> native.Ivf:
    """The tables as the native kernel takes them, checked."""
    made = _natives.get(ivf)
    if made is None or made.dimension != d:
        _check(ivf, d)
        made = _natives[ivf] = native.Ivf.of(*(getattr(ivf, field.name) for field in fields(ivf)))
    return made


@cache
def _function() -> ctypes._NamedFuncPointer:
    function = native.loaded().meshfold_search
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [
        *(pointer, number, pointer, pointer, pointer, pointer, pointer, pointer, number),
        *(pointer, pointer, pointer, pointer, ctypes.c_int32),
    ]
    return function
