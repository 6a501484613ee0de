"""A linear layer: x W^T + b, or max(0, x W^T + b), by whichever library multiplies fastest on the device.

torch takes MKL for float32 on a CPU, which leaves AVX-512 unused on processors of other makers; oneDNN, which torch
brings along, does not, and was 2.2 times as fast on one (1,024 rows of 128 to 256).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from meshfold.kernels.operation import operation

# Below so many rows the call costs more than the product.
_ROWS = 16
_ONEDNN: bool = torch._C._has_mkldnn


@operation("linear")
def linear(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    """[..., M]. x: [..., N], weight: [M, N], bias: [M] or None, of one floating dtype. relu: whether negative values
    become 0. For inference: no gradients."""
    out = functional.linear(x, weight, bias)
    return out.relu() if relu else out


@linear.register_kernel("cpu")
def _(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    rows = x.numel() // max(x.shape[-1], 1)
    if x.dtype != torch.float32 or rows < _ROWS or not _ONEDNN:
        plain = functional.linear(x, weight, bias)
        return plain.relu_() if relu else plain
    out: Tensor = torch.ops.mkldnn._linear_pointwise(
        x.contiguous(), weight.contiguous(), bias, "relu" if relu else "none", [], ""
    )
    return out


@linear.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


# What a graph calls.
LINEAR = torch.ops.meshfold.linear.default
