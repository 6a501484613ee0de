"""The best of all items by similarity from code and residual: the reference of recall.

similarity as in kernels/search/rescore.py        ties go to the smaller row
"""

from __future__ import annotations

import torch
from torch import Tensor

from meshfold.kernels.expect import expect
from meshfold.kernels.native import library
from meshfold.kernels.operation import Operation
from meshfold.kernels.search.ordered import best, keys
from meshfold.kernels.search.rescore import rescore_reference
from meshfold.kernels.vectors.quantize import Quantized

_ITEMS_AT_A_TIME = 8192


def exact_search(queries: Quantized, items: Quantized, rows: Tensor, max_results: int) -> Tensor:
    """[B, min(max_results, N)] int64: positions, best first.

    queries: codes [B, D]. items: codes [N, D]. rows: [N] int32 - each once. max_results: at least 0.
    """
    (b, d), n = queries.codes.shape, items.codes.shape[0]
    expect("queries.codes", queries.codes, (b, d), torch.int8)
    expect("queries.residuals", queries.residuals, (b, d), torch.int8)
    expect("queries.scales", queries.scales, (b,), torch.float32)
    expect("items.codes", items.codes, (n, d), torch.int8)
    expect("items.residuals", items.residuals, (n, d), torch.int8)
    expect("items.scales", items.scales, (n,), torch.float32)
    expect("rows", rows, (n,), torch.int32)
    return _exact_search(queries, items, rows, min(max_results, n))


def exact_search_reference(queries: Quantized, items: Quantized, rows: Tensor, max_results: int) -> Tensor:
    """Every level gives these integers."""
    together = Quantized(*(part.unsqueeze(0) for part in (queries.codes, queries.residuals, queries.scales)))
    b, n = queries.codes.shape[0], items.codes.shape[0]
    best_keys = torch.empty((b, 0), dtype=torch.int64, device=items.codes.device)
    positions = torch.empty((b, 0), dtype=torch.int64, device=items.codes.device)
    for start in range(0, n, _ITEMS_AT_A_TIME):
        part = torch.arange(start, min(start + _ITEMS_AT_A_TIME, n), device=items.codes.device)
        scores = rescore_reference(together, items, part.unsqueeze(0))[0]
        best_keys = torch.cat([best_keys, keys(scores, rows[part].long().expand_as(scores))], 1)
        positions = torch.cat([positions, part.expand_as(scores)], 1)
        best_keys, indices = best(best_keys, max_results)
        positions = positions.gather(1, indices)
    return positions


_exact_search = Operation("exact_search", exact_search_reference)
_exact_search.register_import("cuda", "meshfold.kernels.gpu.exact_search", "exact_search_gpu")


@_exact_search.register_native
def _(queries: Quantized, items: Quantized, rows: Tensor, max_results: int) -> Tensor:
    b = queries.codes.shape[0]
    positions = torch.empty((b, max_results), dtype=torch.int64)
    library.call(
        "exact_search",
        *queries.contiguous(),
        *(items.codes, items.residuals, library.contiguous("scales", items.scales)),
        library.contiguous("rows", rows),
        *(b, *items.codes.shape, library.row_stride(items.codes, items.residuals), max_results),
        positions,
        library.threads(),
    )
    return positions


@_exact_search.register_fake
def _(queries: Quantized, items: Quantized, rows: Tensor, max_results: int) -> Tensor:
    return rows.new_empty((queries.codes.shape[0], max_results), dtype=torch.int64)
