"""kernels/filter/capped.py in Triton: a program a query walks its results from the best down.

Whether a result stays depends on all before it. Where each result's values lie is read for many results at a time;
then they are decided one by one, by one warp, so that what it stored it also reads. How often a value was kept stands
in a table of buckets, found by a part of the value. A bucket that is full takes no further value: such a one is counted
anew among the results that were kept, so that the table has one size, whatever the items hold, and answers are exact.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from meshfold.kernels.filter.steps import FilterTensors
from meshfold.kernels.gpu.filter_steps import field_tables, load_values
from meshfold.kernels.gpu.launch import Compilation, Launch, on

# Values of a bucket: one for each thread of the warp.
_SLOTS = 32
_BUCKETS = 512
# Results whose values are looked up at a time.
_RESULTS = 256


@triton.jit
def _kept(value, column, width, kept, begins, lengths, i, BLOCK: tl.constexpr):
    """How many of the values of kept results before the i-th are this one."""
    count = 0
    for start in range(0, i, BLOCK):
        at = start + tl.arange(0, BLOCK)
        there = at < i
        there = there & (tl.load(kept + at, mask=there, other=0) != 0)
        begin = tl.load(begins + at, mask=there, other=0)
        length = tl.load(lengths + at, mask=there, other=0)
        longest = tl.max(length)
        for j in range(longest):
            held = load_values(column, width, begin + j, there & (j < length))
            count += tl.sum((there & (j < length) & (held == value)).to(tl.int32))
    return count


@triton.jit(do_not_specialize=["items", "k", "fields_held", "R"])
def _capped_kernel(
    positions, fields, limits, signature, columns, offsets, widths,
    begins, lengths, table_values, table_counts, stays,
    items, k, fields_held, R,
    BLOCK: tl.constexpr,
    BUCKETS: tl.constexpr,
    SLOTS: tl.constexpr,
):  # fmt: skip
    query = tl.program_id(0).to(tl.int64)
    field, limit = tl.load(fields + query), tl.load(limits + query)
    positions += query * k
    begins += query * k
    lengths += query * k
    stays += query * k
    table_values += query * BUCKETS * SLOTS
    table_counts += query * BUCKETS * SLOTS
    slot = tl.arange(0, SLOTS)
    is_capped = (field >= 0) & (field < fields_held)
    place = tl.where(is_capped, field, 0)
    column, width, many = tl.load(columns + place), tl.load(widths + place), tl.load(offsets + place)
    readable = tl.where(is_capped, items, 0)
    for start in range(0, k, BLOCK):
        at = start + tl.arange(0, BLOCK)
        position = tl.load(positions + at, mask=at < k, other=-1)
        real = (position >= 0) & (position < items)
        held = (position >= 0) & (position < readable)
        if many == 0:
            word = tl.load(
                signature + ((position >> 9) * R + place) * 8 + ((position >> 6) & 7), mask=held, other=0
            )
            begin = tl.where(held, position, 0)
            length = ((word >> (position & 63)) & 1).to(tl.int32)
        else:
            ends = many.to(tl.pointer_type(tl.int64))
            begin = tl.load(ends + position, mask=held, other=0)
            length = (tl.load(ends + position + 1, mask=held, other=0) - begin).to(tl.int32)
        tl.store(begins + at, begin, mask=at < k)
        tl.store(lengths + at, length, mask=at < k)
        # Nothing to count: it stays, unless there is no item.
        tl.store(stays + at, real.to(tl.int8), mask=at < k)
    tl.debug_barrier()
    for i in range(tl.where(is_capped, k, 0)):
        begin, length = tl.load(begins + i), tl.load(lengths + i)
        fits = length * 0 + 1
        j = length * 0
        while (j < length) & (fits != 0):
            value = load_values(column, width, begin + j, j < length)
            bucket = (((value ^ (value >> 9) ^ (value >> 18)) & (BUCKETS - 1)) * SLOTS) + slot
            counts = tl.load(table_counts + bucket)
            mine = (counts > 0) & (tl.load(table_values + bucket) == value)
            count = tl.sum(tl.where(mine, counts, 0))
            if (count == 0) & (tl.min(counts) > 0):
                count += _kept(value, column, width, stays, begins, lengths, i, BLOCK)
            fits = (count < limit).to(tl.int32)
            j += 1
        if fits == 0:
            tl.store(stays + i, fits.to(tl.int8))
        else:
            for j in range(length):
                value = load_values(column, width, begin + j, j < length)
                bucket = (((value ^ (value >> 9) ^ (value >> 18)) & (BUCKETS - 1)) * SLOTS) + slot
                counts = tl.load(table_counts + bucket)
                mine = (counts > 0) & (tl.load(table_values + bucket) == value)
                free = tl.min(tl.where(counts > 0, SLOTS, slot))
                taken = tl.where(tl.max(mine.to(tl.int32)) != 0, mine, slot == free)
                tl.store(table_values + bucket, tl.zeros_like(bucket) + value, mask=taken)
                tl.store(table_counts + bucket, counts + 1, mask=taken)
                tl.debug_barrier()
        tl.debug_barrier()


def capped_gpu(
    filter_: FilterTensors, positions: Tensor, fields: Tensor, limits: Tensor, items: int
) -> Tensor:
    """As capped_reference; but the host does not check fields and positions: a field that does not exist caps nothing,
    and an item that does not exist never stays."""
    (b, k), device = positions.shape, positions.device
    stays = torch.zeros((b, k), dtype=torch.int8, device=device)
    if not stays.numel() or not filter_.columns:
        return positions >= 0
    launch = _launch()
    begins = torch.empty((b, k), dtype=torch.int64, device=device)
    lengths = torch.empty((b, k), dtype=torch.int32, device=device)
    table_values = torch.empty((b, _BUCKETS, _SLOTS), dtype=torch.int64, device=device)
    table_counts = torch.zeros((b, _BUCKETS, _SLOTS), dtype=torch.int32, device=device)
    with on(positions):
        _capped_kernel[(b,)](
            positions.contiguous(),
            fields.contiguous(),
            limits.contiguous(),
            filter_.signature.contiguous(),
            *field_tables(filter_),
            *(begins, lengths, table_values, table_counts, stays),
            *(items, k, len(filter_.columns), filter_.signature.shape[1]),
            **launch.options(),
        )
    return stays.bool()


def _launch() -> Launch:
    return Launch({"BLOCK": _RESULTS, "BUCKETS": _BUCKETS, "SLOTS": _SLOTS}, num_warps=1)


def compilations() -> list[Compilation]:
    arguments = {
        "*i64": "positions fields limits signature columns offsets widths begins table_values",
        "*i32": "lengths table_counts",
        "*i8": "stays",
        "i64": "items",
        "i32": "k fields_held R",
    }
    return [_launch().compilation("capped", _capped_kernel, arguments)]
