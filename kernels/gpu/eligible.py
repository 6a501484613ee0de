"""kernels/filter/eligible.py in Triton; see filter_steps.py."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from meshfold.kernels.filter.eligible import Eligible
from meshfold.kernels.filter.steps import FilterBatch, FilterTensors
from meshfold.kernels.gpu.common import popcount
from meshfold.kernels.gpu.filter_steps import filter_bits
from meshfold.kernels.gpu.launch import Compilation, Launch, on

_BLOCK = 4096


@triton.jit(do_not_specialize=["words"])
def _count_kernel(bits, counts, words, BLOCK: tl.constexpr):
    row = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    held = tl.load(bits + row * words + at, mask=at < words, other=0)
    tl.store(counts + row * tl.num_programs(0) + tl.program_id(0), tl.sum(popcount(held)))


def eligible_gpu(filter_: FilterTensors, filters: FilterBatch, needed: Tensor, items: int) -> Eligible:
    """As eligible_reference, but the host does not check steps and exclusions: malformed steps pass no item, and an
    excluded item that does not exist changes nothing."""
    bits = filter_bits(filter_, filters, needed, items)
    return Eligible(bits, cardinality(bits))


def cardinality(bits: Tensor) -> Tensor:
    """bits: [B, G, 8] int64 -> [B] int64, items in each set."""
    b, words = bits.shape[0], bits.shape[1] * bits.shape[2]
    parts = torch.zeros((b, triton.cdiv(words, _BLOCK)), dtype=torch.int32, device=bits.device)
    if parts.numel():
        with on(bits):
            _count_kernel[(parts.shape[1], b)](bits, parts, words, **_launch().options())
    return parts.sum(1)


def _launch() -> Launch:
    return Launch({"BLOCK": _BLOCK}, num_warps=4)


def compilations() -> list[Compilation]:
    arguments = {"*i64": "bits", "*i32": "counts", "i32": "words"}
    return [_launch().compilation("count of eligible items", _count_kernel, arguments)]
