"""kernels/filter/sign.py in Triton: a program makes the words of 64 items in some rows of a field.

Programs compute bits by row: each compares the row of every value with its own rows, so that no two programs write one
word.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from meshfold.kernels.filter.bundles import WORDS, count
from meshfold.kernels.filter.sign import SignedField, sign_reference
from meshfold.kernels.gpu.launch import Compilation, Launch, on, power_of_two

_ITEMS = 64
_ROWS = 32


@triton.jit
def _mix(x):
    """splitmix64's finaliser. int64 wraps as uint64 does; masks make its shifts logical."""
    x = x + -7046029254386353131
    x = (x ^ ((x >> 30) & 17179869183)) * -4658895280553007687
    x = (x ^ ((x >> 27) & 137438953471)) * -7723592293110705685
    return x ^ ((x >> 31) & 8589934591)


@triton.jit
def _plane(values, planes, plane_count, STEPS: tl.constexpr):
    """The plane of each value, or plane_count where it has none."""
    low = tl.zeros_like(values)
    high = low + plane_count
    for _ in range(STEPS):
        middle = (low + high) >> 1
        below = tl.load(planes + middle, mask=low < high, other=0) < values
        open_ = low < high
        low = tl.where(open_ & below, middle + 1, low)
        high = tl.where(open_ & (below == 0), middle, high)
    same = tl.load(planes + low, mask=low < plane_count, other=0) == values
    return tl.where((low < plane_count) & same, low, plane_count)


@triton.jit(do_not_specialize=["n", "rows", "first", "presence", "plane_count", "part", "hashes"])
def _sign_kernel(
    offsets,
    values,
    planes,
    order,
    signature,
    strays,
    n,
    rows,
    first,
    presence,
    plane_count,
    part,
    hashes,
    ITEMS: tl.constexpr,
    ROWS: tl.constexpr,
    STEPS: tl.constexpr,
):
    # Rows of the field: those of planes, those of hashes, and last the one of items that have it.
    own = plane_count + part * hashes
    tiles = tl.cdiv(own + 1, ROWS)
    word = (tl.program_id(0) // tiles).to(tl.int64)
    row = (tl.program_id(0) % tiles).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    item = word * ITEMS + tl.arange(0, ITEMS)
    bit = tl.full([ITEMS], 1, tl.int64) << tl.arange(0, ITEMS)
    place = tl.load(order + item, mask=item < n, other=0)
    begin = tl.load(offsets + place, mask=item < n, other=0)
    length = tl.load(offsets + place + 1, mask=item < n, other=0) - begin
    found = tl.where((length > 0)[:, None] & (row == own)[None, :], bit[:, None], 0)
    # Hashes whose rows are among these.
    per_hash = tl.maximum(part, 1)
    low = tl.maximum(tl.min(row) - plane_count, 0) // per_hash
    high = tl.minimum((tl.maximum(tl.max(row) - plane_count, -1) + per_hash) // per_hash, hashes)
    stray = tl.zeros([ITEMS], tl.int32)
    step = tl.zeros([], tl.int64)
    longest = tl.max(length)
    while step < longest:
        held = step < length
        value = tl.load(values + begin + step, mask=held, other=0)
        plane = _plane(value, planes, plane_count, STEPS)
        has_plane = plane < plane_count
        stray = stray | (held & (has_plane == 0)).to(tl.int32)
        match = (held & has_plane)[:, None] & (plane[:, None] == row[None, :])
        found = found | tl.where(match, bit[:, None], 0)
        salt = low
        while salt < high:
            upper = (_mix(value ^ _mix(salt + 1)) >> 32) & 4294967295
            hashed = plane_count + salt * part + ((upper * part) >> 32)
            match = (held & (has_plane == 0))[:, None] & (hashed[:, None] == row[None, :])
            found = found | tl.where(match, bit[:, None], 0)
            salt += 1
        step += 1
    # The bits are disjoint: their sum is their union.
    words = tl.sum(found, 0)
    at = tl.where(row == own, presence, first + row)
    bundle = (word // 8) * rows
    tl.store(signature + (bundle + at) * 8 + word % 8, words, mask=row <= own)
    tl.store(strays + tl.program_id(0), tl.max(stray))


def _launch(planes: int) -> Launch:
    # Halvings until nothing is left of the planes, in steps of 8, so that few kernels are compiled.
    steps = -(-power_of_two(planes + 1).bit_length() // 8) * 8 if planes else 0
    return Launch({"ITEMS": _ITEMS, "ROWS": _ROWS, "STEPS": steps}, num_warps=8)


def sign_gpu(fields: Sequence[SignedField], order: Tensor, rows: int) -> Tensor:
    """As sign_reference. Waits for the device where every value must have a plane, to see that each has one."""
    n = order.numel()
    signature = order.new_zeros((count(n), rows, WORDS))
    if not n:
        return signature
    held = order.contiguous()
    for f, field in enumerate(fields):
        planes, taken = field.planes.numel(), field.planes.numel() + field.part * field.hashes
        programs = triton.cdiv(n, _ITEMS) * triton.cdiv(taken + 1, _ROWS)
        strays = torch.empty(programs, dtype=torch.int32, device=order.device)
        numbers = (n, rows, field.first, f, planes, field.part, field.hashes)
        tensors = [t.contiguous() for t in (field.offsets, field.values, field.planes)]
        with on(order):
            _sign_kernel[(programs,)](
                *tensors, held, signature, strays, *numbers, **_launch(planes).options()
            )
        if planes and not field.hashes and strays.any():
            # Which says what value it is.
            return sign_reference(fields, order, rows)
    return signature


def compilations() -> list[Compilation]:
    arguments = {
        "*i64": "offsets values planes order signature",
        "*i32": "strays",
        "i32": "n rows first presence plane_count part hashes",
    }
    return [_launch(p).compilation(f"sign, {p} planes", _sign_kernel, arguments) for p in (0, 100, 1000)]
