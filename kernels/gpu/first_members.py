"""kernels/filter/first_members.py in Triton: a program a query walks the order and ends where it has found enough."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from meshfold.kernels.gpu.launch import Compilation, Launch, on


@triton.jit(do_not_specialize=["n", "words", "k"])
def _first_members_kernel(order, sets, max_results, out, n, words, k, BLOCK: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    most = tl.minimum(tl.load(max_results + b), k)
    lane = tl.arange(0, BLOCK)
    found = most * 0
    start = most * 0
    while (found < most) & (start < n):
        there = start + lane < n
        position = tl.load(order + start + lane, mask=there, other=0).to(tl.int64)
        held = there & (position >= 0) & (position >> 6 < words)
        word = tl.load(sets + b * words + (position >> 6), mask=held, other=0)
        member = (((word >> (position & 63)) & 1) != 0) & held
        counted = member.to(tl.int32)
        place = found + tl.cumsum(counted, 0) - 1
        tl.store(out + b * k + place, position, mask=member & (place < most))
        found += tl.sum(counted, 0)
        start += BLOCK


def _launch() -> Launch:
    return Launch({"BLOCK": 4096}, num_warps=16)


def first_members_gpu(order: Tensor, sets: Tensor, max_results: Tensor, most_results: int) -> Tensor:
    """As first_members_reference; max_results above most_results counts as most_results, and a position beyond the sets
    is no member."""
    b, groups, words = sets.shape
    out = torch.full((b, most_results), -1, dtype=torch.int64, device=sets.device)
    if out.numel() and order.numel():
        with on(sets):
            _first_members_kernel[(b,)](
                order.contiguous(),
                sets.contiguous(),
                max_results.contiguous(),
                out,
                order.numel(),
                groups * words,
                most_results,
                **_launch().options(),
            )
    return out


def compilations() -> list[Compilation]:
    arguments = {"*i32": "order", "*i64": "sets max_results out", "i64": "n words k"}
    return [_launch().compilation("first_members", _first_members_kernel, arguments)]
