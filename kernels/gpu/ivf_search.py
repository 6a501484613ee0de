"""kernels/search/ivf_search.py in Triton. Shapes follow from the arguments' shapes and `room` alone: it can be
captured.

1  the filters of all items, as bits; none for queries whose every item passes
2  clusters in probe order; survivors of each counted; opened until the budget is met
3  survivors of opened clusters have places of their own in a buffer: those before them, counted
4  a program for a part of a cluster scores it for all query vectors that opened it, with tensor cores: its codes
   are read once for 16 of them. Rows that no one needs are not read
5  the pool of each buffer is selected, without sorting the others
6  the pool is compared from 16 bits (rescore.py) and put in order

A coarse value is 32 (code >> 4) + 15 = 2 (code & -16) + 15, so that a score is a dot with masked codes and a sum that
the query alone decides. There are no packed codes on a device, where they would take half as much again as codes.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import pad

from meshfold.kernels.filter.steps import FilterBatch, FilterTensors, Op
from meshfold.kernels.gpu.common import dots, key_of, popcount, within
from meshfold.kernels.gpu.filter_steps import filter_bits
from meshfold.kernels.gpu.launch import Compilation, Launch, on, tile
from meshfold.kernels.gpu.probe import is_wide, probe_order
from meshfold.kernels.gpu.quantize import quantize_gpu
from meshfold.kernels.gpu.rescore import rescore_gpu
from meshfold.kernels.search.ordered import NOTHING
from meshfold.kernels.search.ranked import in_order
from meshfold.kernels.search.sample import sample_positions
from meshfold.kernels.search.tensors import Found, IvfTensors, Limits
from meshfold.kernels.vectors.quantize import Quantized

_QUERIES = 16
# Items of one word of bits.
_ITEMS = tl.constexpr(64)
# Words of a cluster that a program scores.
_WORDS = 4
_MOST_PARTS = 64
_CLUSTERS = 128


@triton.jit(do_not_specialize=["c", "words"])
def _held_kernel(bits, everything, offsets, held, c, words, BLOCK: tl.constexpr):
    """How many survivors each cluster holds."""
    query = tl.program_id(1).to(tl.int64)
    cluster = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = cluster < c
    first = tl.load(offsets + cluster, mask=there, other=0)
    last = tl.load(offsets + cluster + 1, mask=there, other=0)
    counts = (last - first).to(tl.int32)
    if tl.load(everything + query) == 0:
        begin = first >> 6
        span = tl.where(last > first, ((last - 1) >> 6) - begin + 1, 0)
        counts = tl.zeros([BLOCK], tl.int32)
        for j in range(tl.max(span)):
            word = begin + j
            found = tl.load(bits + query * words + word, mask=j < span, other=0)
            counts += popcount(within(found, word, first, last))
    tl.store(held + query * c + cluster, counts, mask=there)


@triton.jit
def _survivors(bits, row, words, word, some, opened, first, last):
    """Of each query, those of a word's items that lie in the cluster and pass. some: whether not all pass."""
    found = tl.load(bits + row * words + word, mask=some & opened, other=-1)
    return tl.where(opened, within(found, word, first, last), 0)


@triton.jit(do_not_specialize=["q", "tasks", "words", "room"])
def _scan_kernel(
    queries, added, codes, scales, rows, offsets, bits, everything, starts, keys, places, q, tasks, words, room,
    D: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_D: tl.constexpr,
    WORDS: tl.constexpr,
    PARTS: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    cluster = (tl.program_id(0) // PARTS).to(tl.int64)
    part = tl.program_id(0) % PARTS
    first, last = tl.load(offsets + cluster), tl.load(offsets + cluster + 1)
    begin, stop = first >> 6, (last + 63) >> 6
    lane = tl.arange(0, _ITEMS).to(tl.int64)
    for q0 in range(0, q, BLOCK_Q):
        query = (q0 + tl.arange(0, BLOCK_Q)).to(tl.int64)
        asked = query < q
        # Where the survivors of this cluster go, of each query vector; -1 for those that did not open it.
        slot = tl.load(starts + cluster * q + query, mask=asked, other=-1)
        opened = slot >= 0
        if tl.max(slot) >= 0:
            row = query // tasks
            same = tl.load(added + query, mask=asked, other=0).to(tl.int64 if WIDE else tl.int32)
            some = tl.load(everything + row, mask=asked, other=1) == 0
            done = begin
            for word_first in range(begin + part * WORDS, stop, PARTS * WORDS):
                # What other programs score comes first.
                for word in range(done, word_first):
                    slot += popcount(_survivors(bits, row, words, word, some, opened, first, last))
                done = tl.minimum(word_first + WORDS, stop)
                for word in range(word_first, done):
                    own = _survivors(bits, row, words, word, some, opened, first, last)
                    alive = ((own[:, None] >> lane[None, :]) & 1) != 0
                    needed = tl.max(alive.to(tl.int32), 0) != 0
                    item = word * 64 + lane
                    totals = dots(
                        queries, query, asked, codes, item, needed, D, BLOCK_Q, _ITEMS, BLOCK_D, WIDE, -16
                    )
                    totals = 2 * totals + same[:, None]
                    scale = tl.load(scales + item, mask=needed, other=0.0)
                    key = key_of(
                        totals.to(tl.float32) * scale[None, :],
                        tl.load(rows + item, mask=needed, other=0).to(tl.int64)[None, :],
                    )
                    place = slot[:, None] + tl.cumsum(alive.to(tl.int32), 1) - 1
                    at = query[:, None] * room + place
                    fits = alive & (place < room)
                    tl.store(keys + at, key, mask=fits)
                    tl.store(places + at, tl.broadcast_to(item.to(tl.int32)[None, :], alive.shape), mask=fits)
                    slot += tl.sum(alive.to(tl.int32), 1)


def search_gpu(
    vectors: Tensor,
    ivf: IvfTensors,
    filter_: FilterTensors,
    filters: FilterBatch,
    limits: Limits,
    most_candidates: int,
) -> Found:
    """As search_reference, but the host does not check steps, limits and offsets. Malformed steps and exclusions: see
    eligible.py; negative limits count as 0; offsets must ascend from 0 to N, as those of a snapshot do.

    With limits.room = 0 the host waits for the number of survivors; else it reads no value. Residuals may be in pinned
    host memory.
    """
    b, t, d = vectors.shape
    n, c, device = ivf.codes.shape[0], ivf.offsets.numel() - 1, vectors.device
    queries = quantize_gpu(vectors.reshape(b * t, d))
    codes = queries.codes
    everything = _everything(filters)
    bits = filter_bits(filter_, filters, ~everything, n)
    in_cluster = _in_cluster(bits, everything, ivf.offsets, c)

    order = probe_order(codes, ivf.centroids, ivf.centroid_scales, ivf.centroid_spreads)
    by_rank = in_cluster.repeat_interleave(t, 0, output_size=b * t).gather(1, order)
    so_far = torch.cumsum(by_rank, 1, dtype=torch.int64)
    # One more cluster than those that leave the budget unmet; all of them where it cannot be met.
    budget, probes, candidates, max_results = (
        of.repeat_interleave(t, 0, output_size=b * t) for of in limits.tensors()
    )
    unmet = (so_far < budget.unsqueeze(1)).sum(1)
    opened = torch.minimum(unmet + 1, probes.clamp(0, c))
    ranks = torch.arange(c, device=device)
    is_open = ranks < opened.unsqueeze(1)
    scored = torch.where(is_open, by_rank, 0).sum(1)
    starts = torch.empty((b * t, c), dtype=torch.int32, device=device)
    starts.scatter_(1, order, torch.where(is_open, so_far - by_rank, -1).int())

    room = min(n, limits.room or (int(scored.max()) if scored.numel() else 0))
    keys = torch.full((b * t, room), NOTHING, dtype=torch.int64, device=device)
    places = torch.zeros((b * t, room), dtype=torch.int32, device=device)
    if keys.numel():
        launch = _scan_launch(d, n, c)
        with on(vectors):
            _scan_kernel[(c * launch.constexprs["PARTS"],)](
                *(codes, 15 * codes.sum(1), ivf.codes, ivf.scales, ivf.rows, ivf.offsets),
                *(bits, everything.to(torch.int8), starts.T.contiguous(), keys, places),
                *(b * t, t, bits.shape[1] * bits.shape[2], room),
                **launch.options(),
            )
    each = Quantized(*(of.unsqueeze(1) for of in (codes, queries.residuals, queries.scales)))
    rescored = torch.minimum(max_results.clamp(min=0), candidates) * limits.rescored
    pooled = torch.minimum(scored, torch.maximum(candidates, rescored))
    pool = _pool(keys, places, pooled, most_candidates * limits.rescored)
    positions, similarities = _compared(each, ivf, pool)
    kept = _first(torch.minimum(scored, candidates), positions.shape[1])
    beyond, shape = (0, max(most_candidates - kept.shape[1], 0)), (b, t, most_candidates)
    return Found(
        pad(torch.where(kept, positions, -1)[:, :most_candidates], beyond, value=-1).view(shape),
        pad(torch.where(kept, similarities, 0.0)[:, :most_candidates], beyond).view(shape),
        opened.view(b, t),
        scored.view(b, t),
        _sampled(bits, everything, n),
    )


def _pool(keys: Tensor, places: Tensor, pooled: Tensor, most: int) -> Tensor:
    """[Q, min(most, room)] int64 - positions of the largest keys, -1 beyond `pooled`. pooled: [Q] int64."""
    best = torch.topk(keys, min(most, keys.shape[1]), dim=1).indices
    return torch.where(_first(pooled, best.shape[1]), places.gather(1, best).long(), -1)


def _compared(queries: Quantized, ivf: IvfTensors, pool: Tensor) -> tuple[Tensor, Tensor]:
    """(positions, similarities), both [Q, M]: the pool in order, best first. queries: codes [Q, 1, D]. pool: [Q, M]."""
    similarities = rescore_gpu(queries, Quantized(ivf.codes, ivf.residuals, ivf.scales), pool)[:, 0]
    order = in_order(similarities, pool, ivf.rows, pool.shape[1])
    return order.positions, similarities.gather(1, order.places)


def _first(counts: Tensor, columns: int) -> Tensor:
    """[Q, columns] bool: the first counts[q] of row q. counts: [Q] int64."""
    return torch.arange(columns, device=counts.device) < counts.unsqueeze(1)


def _everything(filters: FilterBatch) -> Tensor:
    """[B] bool - whether a filter is one step that every item passes, and nothing is excluded."""
    code, first = filters.steps[:, :, 0], filters.steps[:, :, 1]
    only = (code != Op.NOOP).sum(1) == 1
    passes = ((code == Op.CONSTANT) & (first != 0)).any(1)
    return only & passes & ~(filters.excluded >= 0).any(1)


def _in_cluster(bits: Tensor, everything: Tensor, offsets: Tensor, c: int) -> Tensor:
    """[B, C] int32 - survivors in each cluster."""
    b, words = bits.shape[0], bits.shape[1] * bits.shape[2]
    in_cluster = torch.empty((b, c), dtype=torch.int32, device=bits.device)
    if in_cluster.numel():
        with on(bits):
            _held_kernel[(triton.cdiv(c, _CLUSTERS), b)](
                bits, everything.to(torch.int8), offsets, in_cluster, c, words, **_held_launch().options()
            )
    return in_cluster


def _sampled(bits: Tensor, everything: Tensor, items: int) -> Tensor:
    at = sample_positions(items, bits.device)
    words = bits.flatten(1).index_select(1, at >> 6)
    return torch.where(everything, at.numel(), ((words >> (at & 63)) & 1).sum(1))


def _held_launch() -> Launch:
    return Launch({"BLOCK": _CLUSTERS}, num_warps=4)


def _scan_launch(dimension: int, items: int, clusters: int) -> Launch:
    """A cluster of the usual size is split into parts of _WORDS words."""
    parts = triton.cdiv(triton.cdiv(items, clusters * 64), _WORDS) if clusters else 1
    return Launch(
        {
            "D": dimension,
            "BLOCK_Q": _QUERIES,
            "BLOCK_D": tile(dimension, least=32),
            "WORDS": _WORDS,
            "PARTS": min(max(parts, 1), _MOST_PARTS),
            # A code of a query times twice a masked code.
            "WIDE": int(is_wide(dimension, 127 * 256)),
        },
        num_warps=8,
    )


def compilations() -> list[Compilation]:
    held = {"*i64": "bits offsets", "*i8": "everything", "*i32": "held", "i32": "c words"}
    scan = {
        "*i8": "queries codes everything",
        "*i64": "added offsets bits keys",
        "*i32": "rows starts places",
        "*fp32": "scales",
        "i32": "q tasks words room",
    }
    return [
        _held_launch().compilation("survivors of clusters", _held_kernel, held),
        *(
            _scan_launch(d, 80_000_000, 65_536).compilation(f"scan, D {d}", _scan_kernel, scan)
            for d in (64, 128, 256, 768)
        ),
    ]
