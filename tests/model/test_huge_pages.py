import gc
import mmap
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from meshfold.kernels.filter.bundles import WORDS, count
from meshfold.kernels.filter.steps import FilterBatch, FilterTensors
from meshfold.kernels.vectors.quantize import quantize
from meshfold.model.huge_pages import PAGE_BYTES, in_huge_pages, interleaved
from meshfold.model.index.ivf import IvfIndex

linux = pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="the system knows no huge pages")


@linux
@pytest.mark.parametrize("dtype", [torch.int8, torch.float32])
def test_a_copy_starts_at_a_huge_page_and_outlives_what_it_was_made_of(dtype: torch.dtype) -> None:
    tensor = torch.arange(3 * PAGE_BYTES + 130).to(dtype).view(-1, 2)
    copy = in_huge_pages(tensor)
    assert copy.data_ptr() % PAGE_BYTES == 0
    assert (copy.shape, copy.dtype) == (tensor.shape, tensor.dtype)
    gc.collect()
    assert torch.equal(copy, tensor)
    copy[-1] = 1
    assert not torch.equal(copy, tensor)


@linux
def test_the_system_may_make_huge_pages_of_a_copy() -> None:
    """Of shared memory, say, it makes none, whatever it is advised."""
    settings = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not settings.exists() or "[never]" in settings.read_text():
        pytest.skip("the system makes no huge pages")
    address, eligible = in_huge_pages(torch.ones(3 * PAGE_BYTES, dtype=torch.int8)), []
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if bounds := re.match("([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(bounds[1], 16) <= address.data_ptr() < int(bounds[2], 16)
        elif inside and line.startswith("THPeligible:"):
            eligible.append(int(line.split()[1]))
    assert eligible == [1]


def test_a_tensor_of_gaps_becomes_one_without() -> None:
    tensor = torch.arange(4 * PAGE_BYTES, dtype=torch.int32).view(-1, 2)[:, 1]
    copy = in_huge_pages(tensor)
    assert copy.is_contiguous()
    assert torch.equal(copy, tensor)


@pytest.mark.parametrize("n", [0, 1, 5, 3 * PAGE_BYTES // 128])
def test_rows_of_tables_interleaved(n: int) -> None:
    tables = [torch.randint(-128, 128, (n, 64), dtype=torch.int8) for _ in range(2)]
    copies = interleaved(tables)
    for table, copy in zip(tables, copies, strict=True):
        assert torch.equal(copy, table)
        assert n < 2 or copy.stride() == (128, 1)
    assert copies[1].data_ptr() == copies[0].data_ptr() + (64 if n else 0)


@linux
def test_an_index_answers_alike_from_huge_pages() -> None:
    n, d = 3 * PAGE_BYTES // 128, 128
    items = quantize(torch.randn(n, d, generator=torch.Generator().manual_seed(0)))
    centroids = quantize(torch.ones(1, d))
    index = IvfIndex(
        *(items, torch.arange(n, dtype=torch.int32), centroids.codes, centroids.scales, torch.zeros(1)),
        *(torch.tensor([0, n]), n),
    )
    vectors = torch.randn(1, 1, d, generator=torch.Generator().manual_seed(1))
    no_fields = FilterTensors(torch.empty((count(n), 0, WORDS), dtype=torch.int64), [], [])

    def found() -> tuple[Tensor, Tensor]:
        found = index.search(vectors, no_fields, FilterBatch.everything(1), torch.tensor([50]), 50)
        return found.positions, found.similarities

    before = found()
    assert index.in_huge_pages() is index
    assert index.codes.data_ptr() % PAGE_BYTES == 0
    assert index.residuals.data_ptr() == index.codes.data_ptr() + d
    for mapped, copied in zip(before, found(), strict=True):
        assert torch.equal(mapped, copied)


def test_what_is_small_is_copied_too() -> None:
    tensor = torch.randint(-128, 128, (PAGE_BYTES - 1,), dtype=torch.int8)
    assert torch.equal(in_huge_pages(tensor), tensor)
    assert in_huge_pages(tensor[:0]).numel() == 0
