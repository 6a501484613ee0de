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
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from meshfold.kernels import native
from meshfold.kernels.bundles import unpack
from meshfold.kernels.coarse import coarse_values, packed_bytes
from meshfold.kernels.eligible import check_filter, eligible_reference, native_filter
from meshfold.kernels.expect import expect
from meshfold.kernels.filter_exact import filter_exact
from meshfold.kernels.filter_program import FilterTensors, Programs
from meshfold.kernels.operation import is_plain, operation
from meshfold.kernels.ordered import best, keys
from meshfold.kernels.probe import probe_order
from meshfold.kernels.quantize import quantize_reference
from meshfold.kernels.ragged import ranges
from meshfold.kernels.rescore import rescore_reference
from meshfold.kernels.sample import SAMPLE, of_sample, sample_positions

# Items that the reference scores at a time: what bounds the float64 copy of their codes.
_CHUNK = 16_384

# Results of a call at most: what 32 bits count.
_MOST_FOUND = (1 << 31) - 1
_KIND = torch.float32
# Looked up once: what a call reads is seldom in the cache.
_Int64, _Pointer, _pointer_to = ctypes.c_int64, ctypes.c_void_p, ctypes.byref
_array, _empty, _tensor = np.ndarray, np.empty, torch.from_numpy
_INT64, _FLOAT32 = np.dtype(np.int64), np.dtype(np.float32)


@dataclass(frozen=True, eq=False)
class IvfTensors:
    """N items in C clusters that lie back to back.

    centroids: [C, D] int8, centroid_units, centroid_spreads: [C] float32 - see kernels/probe.py. offsets: [C + 1]
    int64 - cluster c lies at positions offsets[c] to offsets[c + 1]. codes, residuals: [N, D] int8, units: [N] float32,
    rows: [N] int32 - items by position. coarse: [N, P] uint8, packed from the codes - read by native kernels alone:
    without rows where none will.
    """

    centroids: Tensor
    centroid_units: Tensor
    centroid_spreads: Tensor
    offsets: Tensor
    codes: Tensor
    residuals: Tensor
    units: Tensor
    rows: Tensor
    coarse: Tensor

    @cached_property
    def native(self) -> native.Ivf:
        """As the native kernel takes them, checked once."""
        n, d = self.codes.shape
        _check(self, d)
        expect("coarse", self.coarse, (n, packed_bytes(d)), torch.uint8)
        return native.Ivf.of(*(getattr(self, field.name) for field in fields(self)))


@dataclass(frozen=True, eq=False)
class Limits:
    """Of each query, all [B] int64. budget: survivors to score, unless there are fewer. probes: clusters to open at
    most. depth: candidates to keep, at most k.

    rescored: survivors that are compared from 16 bits for each wanted, at least 1. wanted: of those to keep, how many
    surely are the best; None for all. Others are compared only as many as are kept.
    room: survivors that any query vector scores at most, so that a device has room for them; 0 where that is not known.

    Shapes are checked and addresses are taken once.
    """

    budget: Tensor
    probes: Tensor
    depth: Tensor
    rescored: int
    room: int = 0
    wanted: Tensor | None = None

    @cached_property
    def queries(self) -> int:
        """B. Raises ValueError where the tensors are not those of one batch."""
        b = self.depth.numel()
        for name, limit in zip(("budget", "probes", "depth", "wanted"), self.tensors(), strict=True):
            expect(name, limit, (b,), torch.int64)
        if self.rescored < 1:
            raise ValueError(f"rescored must be at least 1, got {self.rescored}")
        return b

    @cached_property
    def native(self) -> native.Limits | None:
        """As the native kernel takes them; None where they are not in the CPU's memory. Raises as `queries` does."""
        _ = self.queries
        return native.Limits.of(*self.tensors(), self.rescored) if is_plain(*self.tensors()) else None

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As operations take them."""
        return self.budget, self.probes, self.depth, self.depth if self.wanted is None else self.wanted


@dataclass(frozen=True, eq=False)
class Found:
    """positions: [B, T, k] int64 - best first, -1 after the last. similarities: [B, T, k] float32, 0 after the last.
    opened, scored: [B, T] int64 - clusters and items. sampled: [B] int64 - how many pass of the sample, min(N, SAMPLE)
    items at even distances; a native kernel counts them when they are first asked for."""

    positions: Tensor
    similarities: Tensor
    opened: Tensor
    scored: Tensor
    sampled: Tensor

    def __getattr__(self, name: str) -> Tensor:
        # What else a native kernel found, when it is first asked for: tensors take as long to make as small searches.
        held = self.__dict__
        if "_memory" not in held or name not in type(self).__annotations__:
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
        held[name] = made = _counted(*held["_asked"]) if name == "sampled" else self._made(name)
        return made

    def _made(self, name: str) -> Tensor:
        """Out of the memory that a native kernel wrote to; places as in kernels/cpp/search.cpp."""
        b, t, k = self.positions.shape
        after = b * t * k
        places: dict[str, tuple[tuple[int, ...], np.dtype[Any], int]] = {
            "opened": ((b, t), _INT64, after),
            "scored": ((b, t), _INT64, after + b * t),
            "similarities": ((b, t, k), _FLOAT32, after + 2 * b * t),
        }
        shape, kind, first = places[name]
        made: Tensor = _tensor(_array(shape, kind, self.__dict__["_memory"], 8 * first))
        return made


def search(
    vectors: Tensor, ivf: IvfTensors, filter_: FilterTensors, programs: Programs, limits: Limits, k: int
) -> Found:
    """The best eligible items for each query vector. vectors: [B, T, D] float32, finite.

    Tables are checked when they are first met: what a tensor's memory is must not change afterwards.
    """
    asked, limit = programs.native, limits.native
    if asked and limit and is_plain(vectors) and native.library() is not None:
        return _search_native(vectors, ivf, filter_, asked, limit, k)
    b, t, d = vectors.shape
    _check_queries(vectors, programs.queries, limits.queries)
    _check(ivf, d)
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


def _check_queries(vectors: Tensor, programs: int, limits: int) -> None:
    """programs, limits: of how many queries they are."""
    b, t, d = vectors.shape
    expect("vectors", vectors, (b, t, d), _KIND)
    if not programs == limits == b:
        raise ValueError(f"{b} queries need as many filters and limits, got {programs} and {limits}")


def _check(ivf: IvfTensors, d: int) -> None:
    n, c = ivf.codes.shape[0], ivf.offsets.numel() - 1
    expect("centroids", ivf.centroids, (c, d), torch.int8)
    expect("centroid_units", ivf.centroid_units, (c,), torch.float32)
    expect("centroid_spreads", ivf.centroid_spreads, (c,), torch.float32)
    expect("offsets", ivf.offsets, (c + 1,), torch.int64)
    expect("codes", ivf.codes, (n, d), torch.int8)
    expect("residuals", ivf.residuals, (n, d), torch.int8)
    expect("units", ivf.units, (n,), torch.float32)
    expect("rows", ivf.rows, (n,), torch.int32)


def search_reference(
    vectors: Tensor, ivf: IvfTensors, filter_: FilterTensors, programs: Programs, limits: Limits, k: int
) -> Found:
    """The same in plain torch, on any device."""
    if ((limits.depth < 0) | (limits.depth > k)).any():
        raise ValueError("depth must lie from 0 to k")
    if ((limits.budget < 0) | (limits.probes < 0)).any():
        raise ValueError("budget and probes must not be negative")
    if ivf.offsets[0] != 0 or ivf.offsets[-1] != ivf.codes.shape[0] or (ivf.offsets.diff() < 0).any():
        raise ValueError("offsets must ascend from 0 to N")
    b, t, _ = vectors.shape
    n, c = ivf.codes.shape[0], ivf.offsets.numel() - 1
    device = vectors.device
    codes, residuals, units = quantize_reference(vectors)
    positions = torch.full((b, t, k), -1, dtype=torch.int64, device=device)
    similarities = torch.zeros((b, t, k), dtype=torch.float32, device=device)
    opened = torch.zeros((b, t), dtype=torch.int64, device=device)
    scored = torch.zeros((b, t), dtype=torch.int64, device=device)
    wanted = torch.ones(b, dtype=torch.bool, device=device)
    survivors = eligible_reference(filter_, programs, wanted, n).bits
    order = probe_order(codes, ivf.centroids, ivf.centroid_units, ivf.centroid_spreads)
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
            depth = int(limits.depth[i])
            surely = min(max(int(limits.tensors()[3][i]), 0), depth) * limits.rescored
            pool = _pool(codes[i, j], chosen, ivf, max(depth, surely))
            one = slice(i, i + 1), slice(j, j + 1)
            compared = rescore_reference(
                *(codes[one], residuals[one], units[one]),
                *(ivf.codes, ivf.residuals, ivf.units),
                pool.unsqueeze(0),
            )[0, 0]
            _, kept = best(keys(compared, ivf.rows[pool].long()), depth)
            positions[i, j, : kept.numel()] = pool[kept]
            similarities[i, j, : kept.numel()] = compared[kept]
            opened[i, j] = p
            scored[i, j] = chosen.numel()
    return Found(positions, similarities, opened, scored, _sampled(filter_, programs, n))


def _sampled(filter_: FilterTensors, programs: Programs, items: int) -> Tensor:
    at = sample_positions(items, programs.steps.device)
    counts = []
    for steps, values, excluded in zip(programs.steps, programs.values, programs.excluded, strict=True):
        passed = filter_exact(filter_.signature, filter_.columns, filter_.offsets, steps, values, at)
        counts.append((passed & ~torch.isin(at, excluded)).sum())
    return torch.stack(counts) if counts else programs.steps.new_empty(0)


def _pool(query: Tensor, chosen: Tensor, ivf: IvfTensors, size: int) -> Tensor:
    held_keys = torch.empty(0, dtype=torch.int64, device=query.device)
    held = torch.empty(0, dtype=torch.int64, device=query.device)
    exact_query = query.double()
    for part in torch.split(chosen, _CHUNK):
        # Sums of integers below 2^53 are exact in float64, in whatever order they are added.
        totals = coarse_values(ivf.codes[part]) @ exact_query
        scores = totals.float() * ivf.units[part]
        held_keys = torch.cat([held_keys, keys(scores, ivf.rows[part].long())])
        held = torch.cat([held, part])
        held_keys, indices = best(held_keys, size)
        held = held[indices]
    return held


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
    return _search_native(vectors, ivf, filter_, asked, limit, k)


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


def _search_native(
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
        _check_queries(vectors, programs.queries, limits.queries)
    items = ivf.native
    if items.dimension != d:
        _check(ivf, d)
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


def _counted(sample: native.FilterIndex, programs: native.Programs, items: int) -> Tensor:
    """[B] int64: how many of the sample pass each filter. sample: what the sampled of the items hold."""
    counts = torch.empty(programs.queries, dtype=torch.int64)
    function = native.loaded().meshfold_sampled
    native.call(
        function, _pointer_to(sample), _pointer_to(programs), _Int64(items), _Pointer(counts.data_ptr())
    )
    return counts


def _sample(filter_: FilterTensors, index: native.FilterIndex) -> native.FilterIndex:
    """What the sampled items hold, as the native kernel takes it; kept with the tables of all."""
    if index.sample is None:
        index.sample = native_filter(of_sample(filter_, index.items), min(index.items, SAMPLE))
    return index.sample


@cache
def _function() -> ctypes._NamedFuncPointer:
    # Without types of arguments: looking at them takes as long as all else of a call. What is no int has its own.
    return native.loaded().meshfold_search
