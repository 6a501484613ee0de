"""Linear layers one after another, as programs have them: x becomes x W^T + b, or max(0, x W^T + b), layer by layer.

A few rows go through all layers before the next come, so that what lies between two layers stays in a core's caches,
and the first reads tensors side by side where they lie. On two cores of a Zen 4 that is 210 GFLOP/s (2,048 rows of 128
and 2 values through layers of 256, 128, 64 and 2), of the 230 that they have.
"""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from meshfold.kernels import native
from meshfold.kernels.operation import operation

# Below so many rows a matrix is read for less than a group of rows that the kernel multiplies at a time.
FEW_ROWS = 12


@operation("layers")
def layers(
    inputs: list[Tensor], weights: list[Tensor], biases: list[Tensor | None], relus: list[bool]
) -> Tensor:
    """[..., M]: what the last layer gives. For inference: no gradients.

    inputs: [..., N] each - side by side they are x. weights: [M, N] each, biases: [M] or None, relus: whether negative
    values become 0; one of each a layer. All of one floating dtype.
    """
    return layers_reference(inputs, weights, biases, relus)


def layers_reference(
    inputs: list[Tensor], weights: list[Tensor], biases: list[Tensor | None], relus: list[bool]
) -> Tensor:
    """The same by torch."""
    x = inputs[0] if len(inputs) == 1 else torch.cat(inputs, -1)
    for weight, bias, relu in zip(weights, biases, relus, strict=True):
        x = functional.linear(x, weight, bias)
        x = x.relu() if relu else x
    return x


@layers.register_kernel("cpu")
def _(inputs: list[Tensor], weights: list[Tensor], biases: list[Tensor | None], relus: list[bool]) -> Tensor:
    shape = inputs[0].shape[:-1]
    rows = shape.numel()
    if rows < FEW_ROWS or native.library() is None or not fit(inputs, weights, biases):
        return layers_reference(inputs, weights, biases, relus)
    # Held until the call is over: a copy may have been made.
    held = [x.reshape(rows, x.shape[-1]) for x in inputs]
    held_weights = [weight.contiguous() for weight in weights]
    held_biases = [None if bias is None else bias.contiguous() for bias in biases]
    widths = [sum(x.shape[1] for x in held), *(weight.shape[0] for weight in weights)]
    out = torch.empty((*shape, widths[-1]), dtype=torch.float32)
    parts, count = len(held), len(weights)
    native.call(
        _native(),
        (ctypes.c_void_p * parts)(*(x.data_ptr() for x in held)),
        (ctypes.c_int64 * parts)(*(x.shape[1] for x in held)),
        (ctypes.c_int64 * parts)(*(x.stride(0) for x in held)),
        (ctypes.c_int64 * parts)(*(x.stride(1) for x in held)),
        parts,
        rows,
        (ctypes.c_void_p * count)(*(weight.data_ptr() for weight in held_weights)),
        (ctypes.c_void_p * count)(*(None if bias is None else bias.data_ptr() for bias in held_biases)),
        (ctypes.c_int64 * (count + 1))(*widths),
        (ctypes.c_bool * count)(*relus),
        count,
        out.data_ptr(),
        native.threads(),
    )
    return out


def fit(inputs: list[Tensor], weights: list[Tensor], biases: list[Tensor | None]) -> bool:
    """Whether the native kernel may read them; torch says what is wrong with others, or multiplies them."""
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


@cache
def _native() -> ctypes._NamedFuncPointer:
    function = native.loaded().meshfold_layers
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [
        *[pointer] * 4,
        *[number] * 2,
        *[pointer] * 4,
        number,
        pointer,
        ctypes.c_int32,
    ]
    return function


# What a graph calls.
LAYERS = torch.ops.meshfold.layers.default
