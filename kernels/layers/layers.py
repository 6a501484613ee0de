"""Linear layers one after another, as programs have them: x becomes x W^T + b, or max(0, x W^T + b), layer by layer.

A few rows pass all layers before the next ones, so that the values between two layers stay in a core's caches, and the
first layer reads tensors side by side without a copy. On two cores of a Zen 4 that is 210 GFLOP/s (2,048 rows of 128
and 2 values through layers of 256, 128, 64 and 2), of the 230 that they have.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from meshfold.kernels.native import library
from meshfold.kernels.operation import Operation

# Rows of a group of the native kernel: fewer are not worth a read of the weights.
FEW_ROWS = 12


def layers_reference(
    inputs: list[Tensor], weights: list[Tensor], biases: list[Tensor | None], relus: list[bool]
) -> Tensor:
    """[..., M]: the output of the last layer. For inference: no gradients.

    inputs: [..., N] each - side by side they are x. weights: [M, N], biases: [M] or None, relus: whether negative
    values become 0; one of each a layer. All have one floating dtype.
    """
    x = inputs[0] if len(inputs) == 1 else torch.cat(inputs, -1)
    for weight, bias, relu in zip(weights, biases, relus, strict=True):
        x = functional.linear(x, weight, bias)
        x = x.relu() if relu else x
    return x


layers = Operation("layers", layers_reference)


@layers.register_native
def _(inputs: list[Tensor], weights: list[Tensor], biases: list[Tensor | None], relus: list[bool]) -> Tensor:
    shape = inputs[0].shape[:-1]
    rows = shape.numel()
    if rows < FEW_ROWS or not fit(inputs, weights, biases):
        return layers_reference(inputs, weights, biases, relus)
    call = Call(rows, inputs, weights, biases, relus)
    out = torch.empty((*shape, weights[-1].shape[0]), dtype=torch.float32)
    library.call("layers", call.addresses(call.inputs), *call.rest(), out, library.threads())
    return out


class Call:
    """Arguments of the native layers, kept until the call is over: copies may have been made."""

    def __init__(
        self,
        rows: int,
        inputs: list[Tensor],
        weights: list[Tensor],
        biases: list[Tensor | None],
        relus: list[bool],
    ) -> None:
        self.inputs = [x.reshape(rows, x.shape[-1]) for x in inputs]
        self._rows, self._relus = rows, relus
        self._weights = [weight.contiguous() for weight in weights]
        self._biases = [None if bias is None else bias.contiguous() for bias in biases]

    @staticmethod
    def addresses(tensors: Sequence[Tensor | None]) -> object:
        return (ctypes.c_void_p * len(tensors))(*(None if t is None else t.data_ptr() for t in tensors))

    def rest(self) -> tuple[object, ...]:
        """From the columns of the inputs to the number of layers."""
        inputs, count = self.inputs, len(self._weights)
        widths = [sum(x.shape[1] for x in inputs), *(weight.shape[0] for weight in self._weights)]
        return (
            *(_integers(sizes) for sizes in zip(*((x.shape[1], *x.stride()) for x in inputs), strict=True)),
            *(len(inputs), self._rows, self.addresses(self._weights), self.addresses(self._biases)),
            *(_integers(widths), (ctypes.c_bool * count)(*self._relus), count),
        )


def _integers(numbers: Sequence[int]) -> object:
    return (ctypes.c_int64 * len(numbers))(*numbers)


def fit(inputs: list[Tensor], weights: list[Tensor], biases: list[Tensor | None]) -> bool:
    """Whether the native kernel can read them; torch multiplies or refuses others."""
    width = sum(x.shape[-1] for x in inputs)
    for x in inputs:
        if x.dtype != torch.float32 or x.shape[:-1] != inputs[0].shape[:-1]:
            return False
    for weight, bias in zip(weights, biases, strict=True):
        if weight.dtype != torch.float32 or weight.dim() != 2 or weight.shape[1] != width:
            return False
        width = weight.shape[0]
        if bias is not None and (bias.dtype != torch.float32 or bias.shape != (width,)):
            return False
    return True


@layers.register_fake
def _(inputs: list[Tensor], weights: list[Tensor], biases: list[Tensor | None], relus: list[bool]) -> Tensor:
    return inputs[0].new_empty((*inputs[0].shape[:-1], weights[-1].shape[0]))


# The operator in graphs.
LAYERS = torch.ops.meshfold.layers.default
