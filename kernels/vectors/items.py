"""Items' vectors, gathered by position.

vector = float32((256 code + residual) * scale)
"""

from __future__ import annotations

import torch
from torch import Tensor

from meshfold.kernels.expect import expect
from meshfold.kernels.native import library
from meshfold.kernels.operation import Operation
from meshfold.kernels.vectors.quantize import Quantized, dequantize


def item_vectors(items: Quantized, positions: Tensor) -> Tensor:
    """[..., D] float32: the items' vectors. items: codes [N, D]. positions: [...] int64 - -1 gives item 0's.

    Raises ValueError for a position of N or more; on a GPU, where the host does not wait, its vector is NaN.
    """
    n, d = items.codes.shape
    expect("items.codes", items.codes, (n, d), torch.int8)
    expect("items.residuals", items.residuals, (n, d), torch.int8)
    expect("items.scales", items.scales, (n,), torch.float32)
    if positions.dtype != torch.int64:
        raise ValueError(f"positions must be [...] int64, got {list(positions.shape)} {positions.dtype}")
    return _item_vectors(items, positions)


def item_vectors_reference(items: Quantized, positions: Tensor) -> Tensor:
    """Every level gives these bytes."""
    n = items.codes.shape[0]
    at = positions.clamp(min=0)
    if (at >= n).any():
        raise ValueError(f"positions must be below {n}, got {int(positions.max())}")
    return dequantize(Quantized(items.codes[at], items.residuals[at], items.scales[at]))


_item_vectors = Operation("item_vectors", item_vectors_reference)
_item_vectors.register_import("cuda", "meshfold.kernels.gpu.items", "item_vectors_gpu")


@_item_vectors.register_native
def _(items: Quantized, positions: Tensor) -> Tensor:
    out = torch.empty((*positions.shape, items.codes.shape[1]), dtype=torch.float32)
    library.call(
        "item_vectors",
        *(items.codes, items.residuals, library.contiguous("scales", items.scales)),
        *(*items.codes.shape, library.row_stride(items.codes, items.residuals)),
        positions.contiguous(),
        positions.numel(),
        out,
        library.threads(),
    )
    return out


@_item_vectors.register_fake
def _(items: Quantized, positions: Tensor) -> Tensor:
    return items.scales.new_empty((*positions.shape, items.codes.shape[1]))
