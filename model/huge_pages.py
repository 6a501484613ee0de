"""Tensors that searches read in memory of their own, in huge pages.

A page of a mapped file is 4 KiB, and a processor's reading ahead ends with it; from pages of 2 MiB a core reads a
third to twice as much in a second.
"""

from __future__ import annotations

import ctypes
import math
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor

PAGE_BYTES = 2 << 20


def empty_in_huge_pages(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor without values, in huge pages as far as the system has some and it is as large as one of them."""
    count = math.prod(shape)
    size = count * dtype.itemsize
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is None or size < PAGE_BYTES:
        return torch.empty(shape, dtype=dtype)
    # Private: of shared memory, which is Python's default, most systems make no huge pages.
    memory = mmap.mmap(-1, size + PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        memory.madvise(advice)
    except OSError:  # a kernel that was built without them
        return torch.empty(shape, dtype=dtype)
    start = -ctypes.addressof(ctypes.c_char.from_buffer(memory)) % PAGE_BYTES
    return torch.frombuffer(memory, dtype=dtype, count=count, offset=start).view(*shape)


def in_huge_pages(tensor: Tensor) -> Tensor:
    """A copy, contiguous."""
    return empty_in_huge_pages(tensor.shape, tensor.dtype).copy_(tensor)


def interleaved(tables: Sequence[Tensor]) -> list[Tensor]:
    """Copies of tables of one shape, [N, D] each, in which an item's rows follow one another: where all of them are
    read, far-off memory is asked for once an item instead of once a table."""
    (n, d), dtype = tables[0].shape, tables[0].dtype
    together = empty_in_huge_pages((n, len(tables), d), dtype)
    copies = list(together.unbind(1))
    for copy, table in zip(copies, tables, strict=True):
        copy.copy_(table)
    return copies
