import gc
import mmap

import pytest
import torch
from torch import Tensor

from meshfold.kernels.bundles import WORDS, count
from meshfold.kernels.filter_program import FilterTensors, Programs
from meshfold.kernels.quantize import quantize
from meshfold.model.huge_pages import PAGE_BYTES, in_huge_pages
from meshfold.model.index.ivf import IvfIndex

linux = pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="the system knows no huge pages")


@linux
@pytest.mark.parametrize("dtype", [torch.int8, torch.float32])
def test_a_copy_starts_at_a_huge_page_and_outlives_what_it_was_made_of(dtype: torch.dtype) -> None:
    tensor = torch.arange(3 * PAGE_BYTES + 130).to(dtype).view(-1, 2)
    copy = in_huge_pages(tensor)
    assert copy.data_ptr() % PAGE_BYTES == 0
    assert copy.data_ptr() != tensor.data_ptr()
    assert (copy.shape, copy.dtype) == (tensor.shape, tensor.dtype)
    gc.collect()
    assert torch.equal(copy, tensor)
    copy[-1] = 1
    assert not torch.equal(copy, tensor)


@linux
def test_a_tensor_of_gaps_becomes_one_without() -> None:
    tensor = torch.arange(4 * PAGE_BYTES, dtype=torch.int32).view(-1, 2)[:, 1]
    copy = in_huge_pages(tensor)
    assert copy.is_contiguous()
    assert torch.equal(copy, tensor)


@linux
def test_an_index_answers_alike_from_huge_pages() -> None:
    n, d = 3 * PAGE_BYTES // 128, 128
    items = quantize(torch.randn(n, d, generator=torch.Generator().manual_seed(0)))
    centroids = quantize(torch.ones(1, d))
    index = IvfIndex(
        *(items, torch.arange(n, dtype=torch.int32), centroids.codes, centroids.units, torch.zeros(1)),
        *(torch.tensor([0, n]), n),
    )
    vectors = torch.randn(1, 1, d, generator=torch.Generator().manual_seed(1))
    no_fields = FilterTensors(torch.empty((count(n), 0, WORDS), dtype=torch.int64), [], [])

    def found() -> tuple[Tensor, Tensor]:
        found = index.search(vectors, no_fields, Programs.everything(1), torch.tensor([50]), 50)
        return found.positions, found.similarities

    before = found()
    assert index.in_huge_pages() is index
    assert index.codes.data_ptr() % PAGE_BYTES == index.residuals.data_ptr() % PAGE_BYTES == 0
    for mapped, copied in zip(before, found(), strict=True):
        assert torch.equal(mapped, copied)


def test_what_is_small_stays_where_it_is() -> None:
    tensor = torch.zeros(PAGE_BYTES - 1, dtype=torch.int8)
    assert in_huge_pages(tensor) is tensor
    assert in_huge_pages(tensor[:0]).numel() == 0
